"""The protocol: from a unit's figures to its verdict (docs/features.md says it in words).

Thresholds are chosen on one half of the cells, where each must be met by at most 1 % of the live units under
either null; verdicts and shares are of the other half.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from scx_core.atlas.collect.token_slots import ACTIVATIONS, GENES
from scx_core.metrics import LIVE_LOG10

DEAD, PROMPT, GENE, SPELLING, FAMILY = "dead", "prompt", "gene", "spelling", "family"
SET, TYPE, POSITION, POLYSEMANTIC = "gene set", "cell type", "position", "polysemantic"
RARE, TOKEN, CONTEXT = "rare", "token", "context"
VERDICTS = (*(CONTEXT, FAMILY, GENE, SET, TYPE, POSITION, TOKEN, SPELLING, PROMPT, POLYSEMANTIC, RARE, DEAD),)
# The figure that each verdict rests on, in the order in which they are asked.
FIGURES = {
    CONTEXT: "context_share",
    PROMPT: "outside",
    TOKEN: "token_share",
    FAMILY: "family_share",
    GENE: "top5",
    SET: "set_share",
    TYPE: "type_share",
    POSITION: "rank_share",
    SPELLING: "spelling",
}
# What a null destroys: genes stay with their cells, ranks and classes when their names are shuffled.
TESTS = {
    ACTIVATIONS: (PROMPT, TOKEN, FAMILY, GENE, TYPE, POSITION, SPELLING),
    GENES: (FAMILY, GENE, SPELLING),
}
# What is held against baselines, whatever the order of verdicts.
AT_GENES = "at a few genes"  # gene-level in the seed paper's sense: five genes hold most; no spelling
BY_TOKEN = "the token explains nearly all"
BEYOND_TOKEN = "at a few genes, beyond the token"
BY_CONTEXT = "reads other genes"
IN_TYPE = "in one cell type"
MEASURES = (AT_GENES, BY_TOKEN, BEYOND_TOKEN, BY_CONTEXT, IN_TYPE)
MAJORITY = 0.5
NEARLY_ALL = 0.9  # of the variance, for the current token to be all that a feature reads
NULL_RATE = 0.01
HIGHEST = 0.95
SPELLED_TOKEN = "token and spelling"  # asked together; its verdict is spelling


class VerdictThresholds(NamedTuple):
    """What each figure must reach. `live`: a feature fires at more than this share of the tokens; `tokens`:
    with fewer in a half it is live, but too rare to be judged. What reaches `spelling` is no gene-level,
    family or gene-set feature; what reaches `token` is a function of the current token, and none of these.
    """

    live: float = 10.0**LIVE_LOG10
    tokens: int = 20
    context: float = MAJORITY
    prompt: float = MAJORITY
    token: float = NEARLY_ALL
    gene: float = MAJORITY
    family: float = MAJORITY
    gene_set: float = MAJORITY
    cell_type: float = MAJORITY
    position: float = MAJORITY
    spelling: float = MAJORITY

    def of(self, verdict: str) -> float:
        """The threshold of a verdict's figure."""
        return float(getattr(self, _field(verdict)))


def choose_thresholds(nulls: Mapping[int, pd.DataFrame]) -> VerdictThresholds:
    """Half of the mass, or more where more than 1 % of the units reach that under a null that tests it.

    `nulls` are figures of shuffled data (`evidence`, all layers) by `token_slots.DATA` number, of the
    choosing half; dead and rare units are left out. Gene sets have a null of their own (`with_gene_sets`).
    """
    limits = VerdictThresholds()
    wanted = {verdict: limits.of(verdict) for verdict in FIGURES}
    for data, tested in TESTS.items():
        table = figures(nulls[data])
        table = table[(table["frequency"] > limits.live) & (table["fired"] >= limits.tokens)]
        for verdict in tested if len(table) else ():
            reached = float(np.quantile(table[FIGURES[verdict]], 1 - NULL_RATE))
            wanted[verdict] = max(wanted[verdict], min(reached, HIGHEST))
    chosen: dict[str, Any] = {_field(verdict): round(value, 3) for verdict, value in wanted.items()}
    return limits._replace(**chosen)


def _field(verdict: str) -> str:
    return verdict.replace(" ", "_")


def figures(found: pd.DataFrame) -> pd.DataFrame:
    """Evidence with the figures that are made of others."""
    more = {"outside": found["prompt"] + found["answer"]}
    absent = dict.fromkeys({"set_share", "context_share", "token_share"} - set(found), 0.0)
    return found.assign(**more, **absent)


def met(found: pd.DataFrame, limits: VerdictThresholds) -> dict[str, pd.Series]:
    """Which rows each verdict applies to, whatever comes before it, in the order in which they are asked.

    A context feature is none that the token explains; gene-level, family and gene-set features are no
    spelling; of a family no single gene may hold most (that is a gene).
    """
    table = figures(found)
    reached = {verdict: table[figure] >= limits.of(verdict) for verdict, figure in FIGURES.items()}
    spelled = reached.pop(SPELLING)
    reached[CONTEXT] &= ~reached[TOKEN]
    reached[FAMILY] &= ~spelled & (table["n_half"] != 1)
    for verdict in (GENE, SET):
        reached[verdict] &= ~spelled
    first = {verdict: reached.pop(verdict) for verdict in (CONTEXT, PROMPT)}
    return {**first, SPELLED_TOKEN: reached[TOKEN] & spelled, **reached, SPELLING: spelled}


def verdicts(found: pd.DataFrame, limits: VerdictThresholds) -> pd.DataFrame:
    """`verdict` and `score` of every row. The score is the share that the verdict rests on (0 to 1); of a
    polysemantic unit what its largest share leaves; 0 of a dead or rare one."""
    table, applies = figures(found), met(found, limits)
    conditions = [table["frequency"] <= limits.live, table["fired"] < limits.tokens, *applies.values()]
    names = [SPELLING if verdict == SPELLED_TOKEN else verdict for verdict in applies]
    found_verdict = np.select(conditions, [DEAD, RARE, *names], POLYSEMANTIC)
    # That a token explains much of a mixed feature makes it no less mixed.
    largest = table[[figure for verdict, figure in FIGURES.items() if verdict != TOKEN]].max(axis=1)
    nothing = np.zeros(len(table))
    scores = [nothing, nothing, *(table[FIGURES[name]] for name in names)]
    score = np.select(conditions, scores, 1 - np.minimum(largest, 1))
    return pd.DataFrame({"verdict": found_verdict, "score": score}, index=found.index)


def verdict_shares(by_data: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Shares of the live units by layer and over all (layer −1), for each kind of data; of the dead, the
    share of all units. `by_data` holds tables with layer and verdict."""
    rows = []
    for data, table in by_data.items():
        for layer, part in [(-1, table), *table.groupby("layer")]:
            live = int((part["verdict"] != DEAD).sum())
            for verdict in VERDICTS:
                number = int((part["verdict"] == verdict).sum())
                of = len(part) if verdict == DEAD else live
                rows.append((layer, data, verdict, number / of if of else 0.0, live))
    return pd.DataFrame(rows, columns=["layer", "data", "verdict", "share", "features"])


def criterion_shares(found: pd.DataFrame, limits: VerdictThresholds) -> pd.DataFrame:
    """Shares of the live units that meet each measure of `MEASURES`, by layer and over all (layer −1): layer,
    measure, share, features (live ones)."""
    which = measured(found, limits)
    live = found["frequency"] > limits.live
    rows = []
    for layer in (-1, *sorted(found["layer"].unique())):
        here = live if layer == -1 else live & (found["layer"] == layer)
        n = int(here.sum())
        rows += [(layer, name, float((which[name] & here).sum() / max(n, 1)), n) for name in MEASURES]
    return pd.DataFrame(rows, columns=["layer", "measure", "share", "features"])


def measured(found: pd.DataFrame, limits: VerdictThresholds) -> dict[str, pd.Series]:
    """Which live units that are not too rare meet each of `MEASURES`, whatever their verdict."""
    judged = (found["frequency"] > limits.live) & (found["fired"] >= limits.tokens)
    table, applies = figures(found), met(found, limits)
    inside = judged & ~(table["outside"] >= limits.prompt)
    token = judged & (table["token_share"] >= limits.token)
    at_genes = inside & applies[GENE]
    return {
        AT_GENES: at_genes,
        BY_TOKEN: token,
        BEYOND_TOKEN: at_genes & ~token,
        BY_CONTEXT: judged & applies[CONTEXT],
        IN_TYPE: judged & applies[TYPE],
    }


NAMED = 3  # genes or pieces that a label names
CONTEXT_OF_MANY = "context: at many genes"  # no gene that it reads stands out, and none that it stands at


def automatic_label(row: Any) -> str:
    """`row` has the columns of features.parquet, and `pieces`: the strongest pieces of text, of a feature of
    the prompt those that stand in no gene."""
    genes = ", ".join(row.genes.split(" ")[:NAMED]) if row.genes else ""
    pieces = ", ".join(f"“{piece.strip() or piece}”" for piece in row.pieces[:NAMED])
    words = {
        DEAD: "dead",
        RARE: f"rare: {genes}" if genes else "rare",
        CONTEXT: _context(row, genes),
        TOKEN: _token(row, pieces),
        GENE: genes,
        FAMILY: f"{row.family} genes",
        SET: row.gene_set,
        TYPE: f"in {row.cell_type}",
        POSITION: f"ranks {row.ranks}",
        SPELLING: f"spelling {pieces}",
        PROMPT: f"prompt {pieces}".rstrip(),
    }
    return words.get(row.verdict) or (f"mixed: {genes}" if genes else "mixed")


def _token(row: Any, pieces: str) -> str:
    """ "token “74” (CD74)"; tokens only where those named hold most, and so the gene."""
    if row.pieces_share < 0.5:
        return "many tokens"
    words = f"token {pieces}" if len(row.pieces) == 1 else f"tokens {pieces}"
    gene = str(row.top_gene or "")
    return f"{words} ({gene})" if row.n_half == 1 and gene else words


def _context(row: Any, genes: str) -> str:
    """ "context: reads CD79A, at CD74, HLA-DRA"; without a gene that stands out, only where it fires."""
    read = getattr(row, "context_genes", "") or ""
    words = ", ".join(read.split(" ")[:NAMED])
    if not words and row.gene >= 0.5 and row.top5 < 0.5:
        return CONTEXT_OF_MANY
    at = "prompt and answer" if row.gene < 0.5 else genes if row.top5 >= 0.5 else "many genes"
    return f"context: reads {words}, at {at}" if words else f"context: at {at}"


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
    return measures_by_row(row.to_frame().T, thresholds)[0]


def measures_by_row(rows: pd.DataFrame, thresholds: dict[str, Any]) -> list[list[Measure]]:
    """`measures` of every row, of many at once."""
    limits, table = VerdictThresholds(**thresholds), figures(rows)
    columns = []
    for verdict, figure in FIGURES.items():
        column = _NAMES.get(verdict, "")
        named = table[column].astype(object) if column in table else [""] * len(table)
        names = ["" if name is None or pd.isna(name) else str(name) for name in named]
        values = table[figure].astype(float)
        columns.append(
            [
                Measure(verdict, value, limits.of(verdict), name, _MEASURES[verdict])
                for value, name in zip(values.tolist(), names, strict=True)
            ]
        )
    return [list(row) for row in zip(*columns, strict=True)]


def reason(row: pd.Series, thresholds: dict[str, Any], found: list[Measure] | None = None) -> str:
    """One sentence on why the feature has its verdict. `found`: its `measures`, where they are known."""
    verdict, limits = str(row["verdict"]), VerdictThresholds(**thresholds)
    if verdict == DEAD:
        return f"It fires at {row['frequency']:.3%} of the tokens; live ones at more than {limits.live:.3%}."
    if verdict == RARE:
        return f"It fires at fewer than {limits.tokens} tokens of the half that verdicts are given on."
    found = measures(row, thresholds) if found is None else found
    if verdict == POLYSEMANTIC:
        best = max(found, key=lambda one: one.value / one.threshold)
        return f"No figure reaches its threshold. The nearest: {_sentence(best)}"
    return _sentence(next(one for one in found if one.verdict == verdict))


def _sentence(one: Measure) -> str:
    name = f" ({one.name})" if one.name else ""
    return f"{one.value:.0%} {one.words}{name}; the threshold is {one.threshold:.0%}."
