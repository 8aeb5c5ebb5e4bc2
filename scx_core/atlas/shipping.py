"""A short form of an atlas, small enough to ship beside a set: what names and a feature's card need.

Long tables lose their weakest rows; the atlases that are held beside (raw neurons and others) are left out.
`meta["shortened"]` says how many rows of a feature stayed; verdicts, figures and labels are the whole one's.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from scx_core.atlas.atlas_folder import shipped_root
from scx_core.atlas.tables.atlas import Atlas
from scx_core.errors import ScxError

# Rows of a feature that stay, the largest first; other tables stay whole.
ROWS = {"genes": 8, "families": 2, "pieces": 3, "types": 5, "donors": 4, "writes": 5}
EXAMPLES = {"top": 3, "sample": 1}
LEAST = {"types": 0.05, "ranks": 0.03}  # shares below which a row is left out


def shortened(atlas: Atlas) -> Atlas:
    """The short form of an atlas, not saved."""
    tables = {}
    for name, rows in ROWS.items():
        table = atlas.table(name)
        key = ["layer", "feature"] + (["kind"] if name == "writes" else [])
        table = table[table["share"] >= LEAST[name]] if name in LEAST else table
        tables[name] = table.groupby(key, sort=False, observed=True).head(rows).reset_index(drop=True)
    ranks = atlas.table("ranks")
    tables["ranks"] = ranks[ranks["share"] >= LEAST["ranks"]].reset_index(drop=True)
    examples = atlas.table("examples")
    kept = [
        part.groupby(["layer", "feature"], sort=False).head(EXAMPLES.get(str(kind), 0))
        for kind, part in examples.groupby("kind", observed=True)
    ]
    tables["examples"] = pd.concat(kept).sort_index().reset_index(drop=True)
    by_gene = tables["genes"].astype({"gene": str})
    tables["readers"] = by_gene.sort_values(["gene", "layer", "feature"], kind="stable", ignore_index=True)
    # Shares and their excess stay in the curve; the units of the baselines have no names to give.
    tables["baselines"] = atlas.table("baselines").head(0)
    meta = atlas.meta | {"beside": [], "shortened": {**ROWS, **EXAMPLES}}
    whole = Atlas(meta, dict(atlas.tables), {}, atlas.folder)
    return whole.in_memory().with_tables(tables, meta, {})


def ship(atlas: Atlas, folder: Path | str) -> Atlas:
    """Write the short form of an atlas to a folder. Raises ScxError when the disk is full."""
    return shortened(atlas).save(folder)


def place_of(set_folder: Path | None, models: Path | None = None) -> Path:
    """Where the atlas of an installed set ships: models/NAME-atlas for models/NAME-transcoders.

    Raises ScxError for a set that was never saved.
    """
    if set_folder is None:
        raise ScxError("This set was never saved, so its atlas has no place.", "Save the set first.")
    name = set_folder.name.replace("-transcoders", "")
    return (models or shipped_root()) / f"{name}-atlas"
