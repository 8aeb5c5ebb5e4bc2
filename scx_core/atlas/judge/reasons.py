"""Why a feature has its verdict: the figure that it rests on, beside its threshold, in words."""

from __future__ import annotations

from typing import Any, NamedTuple

import pandas as pd

from scx_core.atlas.judge.protocol import (
    CONTEXT,
    DEAD,
    FAMILY,
    FIGURES,
    GENE,
    POLYSEMANTIC,
    POSITION,
    PROMPT,
    RARE,
    SET,
    SPELLING,
    TOKEN,
    TYPE,
    Thresholds,
    figures,
)

_MEASURES = {
    CONTEXT: "of its activation is lost when the other genes are exchanged and its own token stays",
    PROMPT: "of its activation is on prompt and answer words",
    TOKEN: "of its variance is explained by the token that stands there, whatever the rest",
    GENE: "of its activation is on its five strongest genes",
    FAMILY: "of its activation is on one family of genes",
    SET: "of its activation is on one gene set",
    TYPE: "of its activation per token is in one cell type",
    POSITION: "of its activation per token is in one range of ranks",
    SPELLING: "of its activation goes with the letters of a token, whatever the gene",
}
_NAMES = {CONTEXT: "context_genes", FAMILY: "family", SET: "gene_set", TYPE: "cell_type", POSITION: "ranks"}
MEANINGS = {
    CONTEXT: "Reads other genes than the one it stands at: exchange them, and most of its activation goes.",
    GENE: "Fires at a few genes: the five strongest hold most of its activation.",
    FAMILY: "Fires at genes of one family (a common stem such as RPL, MT-, HLA-).",
    SET: "Fires at genes of one gene set.",
    TYPE: "Fires in cells of one type, whatever the gene.",
    POSITION: "Fires at one range of ranks of the cell sentence.",
    TOKEN: "A table by token: what stands there explains nearly all of it, whatever the rest of the cell.",
    SPELLING: "Fires at a piece of text that stands in many genes.",
    PROMPT: "Fires at the words around the genes.",
    POLYSEMANTIC: "Fires often enough, and at no one thing.",
    RARE: "Fires too seldom to be judged.",
    DEAD: "Never fires, or next to never.",
}


class Measure(NamedTuple):
    """One figure of the protocol: `value` of this feature, `threshold` for `verdict`, `name`: which family,
    type … it is about, `words`: what the value is a share of."""

    verdict: str
    value: float
    threshold: float
    name: str
    words: str

    @property
    def met(self) -> bool:
        """Whether it reaches the threshold."""
        return self.value >= self.threshold


def measures(row: pd.Series, thresholds: dict[str, Any]) -> list[Measure]:
    """All figures that verdicts rest on, in the order in which they are asked."""
    limits = Thresholds(**thresholds)
    table = figures(row.to_frame().T)
    found = []
    for verdict, figure in FIGURES.items():
        name = row.get(_NAMES.get(verdict, ""), "")
        name = "" if name is None or pd.isna(name) else str(name)
        value = float(table[figure].iloc[0])
        found.append(Measure(verdict, value, limits.of(verdict), name, _MEASURES[verdict]))
    return found


def reason(row: pd.Series, thresholds: dict[str, Any]) -> str:
    """One sentence on why the feature has its verdict."""
    verdict, limits = str(row["verdict"]), Thresholds(**thresholds)
    if verdict == DEAD:
        return f"It fires at {row['frequency']:.3%} of the tokens; live ones at more than {limits.live:.3%}."
    if verdict == RARE:
        return f"It fires at fewer than {limits.tokens} tokens of the half that verdicts are given on."
    found = measures(row, thresholds)
    if verdict == POLYSEMANTIC:
        best = max(found, key=lambda one: one.value / one.threshold)
        return f"No figure reaches its threshold. The nearest: {_sentence(best)}"
    return _sentence(next(one for one in found if one.verdict == verdict))


def _sentence(one: Measure) -> str:
    name = f" ({one.name})" if one.name else ""
    return f"{one.value:.0%} {one.words}{name}; the threshold is {one.threshold:.0%}."
