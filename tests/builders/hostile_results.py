"""Results whose every name is an attack: an atlas, a validation, the evidence of a type."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from scx_core.atlas import Atlas
from scx_core.evidence.by_type.record import TypeEvidence
from scx_core.runs import write_json
from scx_core.runs.files import read_json
from scx_core.validation import Validation
from tests.builders.hostile import HOSTILE_GENE, HOSTILE_LABEL, HOSTILE_TEXTS, NAMES
from tests.figures.fakes import hostile_circuit

# Words of ours, which are looked up: not what anybody calls a gene or a type.
_OURS = ("verdict", "kind", "data", "measure")


def make_hostile(folder: Path) -> Atlas:
    """Every text of a saved atlas becomes an attack, another for each, and so does what people said there."""
    for path in sorted(folder.rglob("*.parquet")):
        table = pq.read_table(path)
        for column in table.column_names:
            kind = table.schema.field(column).type
            text = pa.types.is_dictionary(kind) or pa.types.is_string(kind)
            ours = column in _OURS or (column == "source" and path.stem in ("baselines", "curve"))
            if not text or ours or (column == "source" and path.stem == "sets"):
                continue
            place = table.column_names.index(column)
            table = table.set_column(place, column, _renamed(table[column].cast(pa.string()), column))
        pq.write_table(table, path)
    for file in folder.rglob("atlas.json"):
        meta = read_json(file)
        meta |= {"types": NAMES, "donors": NAMES, "source": meta["source"] | {"name": HOSTILE_LABEL}}
        meta["gene_sets"] = _tested()
        write_json(file, meta)
    atlas = Atlas.open(folder)
    for k, name in enumerate(name for name in NAMES if len(name.split()) and len(name) < 200):
        atlas.give_label(0, k % int(atlas.meta["n_units"]), name, name)
    return atlas


def _renamed(texts: pa.ChunkedArray, column: str) -> pa.Array:
    """Each distinct text by an attack; of several genes in one text all."""
    names, given = cycle(NAMES), {}

    def other(text: str) -> str:
        if text not in given:
            given[text] = next(names)
        return given[text]

    found = [
        None if text is None else " ".join(map(other, text.split())) if column == "genes" else other(text)
        for text in texts.to_pylist()
    ]
    return pa.array(found, pa.string())


def _tested() -> dict[str, Any]:
    rule = {"rival": "random directions", "of": HOSTILE_LABEL, "share": 0.2, "features": 9}
    rule |= {"rival_share": 0.1, "excess": 0.1, "low": 0.0, "high": 0.2}
    return {
        "sets": HOSTILE_GENE, "notes": list(NAMES), "warning": HOSTILE_LABEL, "tested_sets": 3,
        "tested_features": 9, "live_features": 9, "enriched": 0.1, "enriched_by_chance": 0.0,
        "rule": [rule],
    }  # fmt: skip


def hostile_sets(atlas: Atlas) -> pd.DataFrame:
    """A significant set of some features, called anything."""
    n = len(NAMES)
    return pd.DataFrame(
        {
            "layer": [0] * n, "feature": list(range(n)), "gene_set": NAMES, "source": NAMES,
            "shared": [3] * n, "list": [9] * n, "size": [20] * n, "genes": NAMES, "p": [0.001] * n,
            "q": [0.01] * n, "share": [0.3] * n,
        }
    )  # fmt: skip


def hostile_validation(found: Validation) -> Validation:
    """The table with labels, warnings, baselines and provenance that are attacks; the marks stay."""
    labels = tuple(NAMES[: len(found.confusion.labels)])
    cautions = tuple(
        one._replace(text=text, remedy=text)
        for one, text in zip(found.warnings * len(NAMES), NAMES, strict=False)
    )
    names = iter(cycle(NAMES))
    return found._replace(
        confusion=found.confusion._replace(labels=labels),
        warnings=cautions,
        baselines=tuple(row._replace(name=next(names)) for row in found.baselines),
        by_token_class={next(names): row for row in found.by_token_class.values()},
        drawn_over=HOSTILE_GENE,
        split=HOSTILE_LABEL,
        provenance={
            part: stated | {"name": HOSTILE_LABEL} if isinstance(stated, dict) else stated
            for part, stated in found.provenance.items()
        },
    )


def hostile_evidence(found: TypeEvidence) -> TypeEvidence:
    """The record with every name of a gene, type or label replaced by somebody's markup."""
    names: Iterator[str] = iter(HOSTILE_TEXTS * 50)
    rows = [row | {"genes": [next(names) for _ in row["genes"]]} for row in found.rankings["rankings"]]
    return found._replace(
        label=HOSTILE_TEXTS[0],
        answer=HOSTILE_TEXTS[0],
        circuit=hostile_circuit("consensus"),
        rankings=found.rankings | {"rankings": rows},
        knockouts=found.knockouts | {"gene": [next(names) for _ in found.knockouts["gene"]]},
        answers=found.answers | {"counts": dict.fromkeys(HOSTILE_TEXTS, 1), "low": 0.1},
        provenance=found.provenance | {"cell_type": HOSTILE_TEXTS[0], "data": {"name": HOSTILE_TEXTS[0]}},
    )
