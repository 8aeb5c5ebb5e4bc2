"""An atlas in a notebook as shares of verdicts beside random directions; a feature as its card."""

from __future__ import annotations

from typing import Any

import pandas as pd

from scx_core.atlas import Atlas, Feature, FindConfig, excess
from scx_core.atlas.judge.protocol import MEANINGS, measures, reason
from scx_core.atlas.tables.find import find
from scx_core.figures.coloured_text import Shown, examples_html
from scx_core.figures.drawing.text import number, plain
from scx_core.figures.notebook.page import Block, Fold, Ready, Title
from scx_core.figures.report.parts import Table

LISTED, GENES, EXAMPLES = 12, 12, 6


def atlas_blocks(atlas: Atlas) -> list[Block]:
    """How many features, the shares beside their rival, the surest features."""
    meta = atlas.meta
    name = plain((meta.get("source") or {}).get("name", ""), 60)
    below = (
        f"{meta['n_layers']} layers × {meta['n_units']:,} features, over {meta.get('n_cells', 0):,} cells "
        f"and {meta.get('n_tokens', 0):,} tokens. atlas.feature(layer, number) is a feature's card."
    )
    return [
        Title(f"Atlas of {name}" if name else "Atlas", below),
        _shares(atlas),
        _listed(atlas),
    ]


def _shares(atlas: Atlas) -> Block:
    table = excess(atlas)
    if not len(table):
        return "No directions drawn at random were held beside these features: shares alone say nothing."
    rows = table[(table["layer"] == -1) & ((table["share"] > 0) | (table["random_high"] > 0))]
    shown = tuple(
        {
            "measure": row["measure"],
            **{key: 100 * row[key] for key in ("share", "random", "random_low", "random_high")},
            **{key: 100 * row[key] for key in ("excess", "low", "high")},
        }
        for row in rows.to_dict("records")
    )
    columns = (
        ("of the live features", ("measure",)),
        ("share, %", ("share",)),
        ("random directions, % (lowest, highest draw)", ("random", "random_low", "random_high")),
        ("excess, points [95%]", ("excess", "low", "high")),
    )
    first = rows.iloc[0]
    note = f"n = {int(first['features']):,} live features, {int(first['draws'])} draws of random directions."
    return Table("verdict_shares", "What features fire at, beside random directions", note, columns, shown)


def _listed(atlas: Atlas) -> Table:
    found = find(atlas, FindConfig(limit=LISTED))
    rows = tuple(
        {
            "feature": f"L{row['layer']}·{row['feature']}",
            "label": plain(row["label"], 80),
            "verdict": str(row["verdict"]),
            "share": row["score"],
            "genes": plain(row["genes"], 80),
            "cell_type": plain(row["cell_type"] or "", 40),
            "fires": f"{row['frequency']:.2%}",
        }
        for row in found.to_dict("records")
    )
    columns = (
        ("feature", ("feature",)), ("label", ("label",)), ("verdict", ("verdict",)),
        ("share it rests on", ("share",)), ("strongest genes", ("genes",)), ("cell type", ("cell_type",)),
        ("fires at tokens", ("fires",)),
    )  # fmt: skip
    note = "By the share that the verdict rests on. `scx features` searches them all."
    return Table("features", f"The first {len(rows)} features", note, columns, rows)


def feature_blocks(found: Feature) -> list[Block]:
    """Verdict and its reason, where it fires, examples, what it writes."""
    row = found.row
    verdict = str(row["verdict"])
    given = next((one.label for one in reversed(found.labels) if one.label), "")
    label = plain(given or row["label"], 120)
    said = f"{verdict}: {MEANINGS[verdict]} {reason(row, found.thresholds)}"
    facts = (
        f"It fires at {row['frequency']:.2%} of all tokens, in {int(row['cells']):,} cells; largest "
        f"activation {number(row['maximum'], 2)}, mean where it fires {number(row['mean'], 2)}. The other "
        f"half of the cells gives {'the same' if row['stable'] else 'another'} verdict."
    )
    return [
        Title(f"L{row['layer']}·{row['feature']}  {label}", said),
        facts,
        _bars("Genes", found.genes.head(GENES), "gene", "share of its activation"),
        Ready(examples_html(map(example, _top(found)), float(row["maximum"]))),
        Fold(
            "Cell types, families, what it writes, figures of the verdict",
            (
                _bars("Cell types", found.types.head(GENES), "cell_type", "share, per token"),
                _bars("Families", found.families.head(GENES), "family", "share of its activation"),
                _bars("Pushes", found.writes, "text", "weight on the output", "weight", "kind"),
                _measures(found),
            ),
        ),
    ]


def _top(found: Feature) -> list[Any]:
    rows = found.examples[found.examples["kind"] == "top"].head(EXAMPLES)
    return list(rows.itertuples())


def example(row: Any) -> Shown:
    """A row of the table of examples, as it is coloured."""
    gene = row.gene if isinstance(row.gene, str) and row.gene else "no gene"
    about = (f"{row.value:.2f}  {gene}", str(row.cell_type or "unlabelled"))
    return Shown(row.texts, row.values, row.position - row.start, about)


def _bars(
    title: str, rows: pd.DataFrame, name: str, unit: str, value: str = "share", kind: str = ""
) -> Table:
    shown = tuple(
        {"what": plain(row[name], 60), "value": float(row[value])}
        | ({"kind": str(row[kind])} if kind else {})
        for row in rows.to_dict("records")
    )
    columns: tuple[tuple[str, tuple[str, ...]], ...] = ((title.lower(), ("what",)), (unit, ("value",)))
    columns = (("kind", ("kind",)), *columns) if kind else columns
    return Table(title.lower().replace(" ", "_"), title, "" if shown else "None.", columns, shown)


def _measures(found: Feature) -> Table:
    rows = tuple(
        one._asdict()
        | {"met": "yes" if one.met else "no", "what": plain(f"{one.name}: {one.words}".lstrip(": "))}
        for one in measures(found.row, found.thresholds)
    )
    columns = (
        ("verdict", ("verdict",)), ("here", ("value",)), ("threshold", ("threshold",)), ("met", ("met",)),
        ("share that …", ("what",)),
    )  # fmt: skip
    note = "Asked from top to bottom; the first that is met is the verdict."
    return Table("figures", "Figures of the verdict", note, columns, rows)
