"""Verdict shares of an atlas beside its nulls, and of the units that are held beside it."""

from __future__ import annotations

import pandas as pd

from scx_core.atlas.places import DATA
from scx_core.atlas.places import REAL as REAL_DATA
from scx_core.atlas.store import Atlas

ALL_LAYERS = -1
REAL = DATA[REAL_DATA]


def compared_shares(atlas: Atlas) -> pd.DataFrame:
    """Rows layer (−1: all), data, verdict, share, features (live ones): the real data, both nulls, then the
    real data of each atlas beside it under that one's name. The choosing half is left out."""
    own = atlas.shares
    parts = [own[own["data"].isin(DATA)]]
    for name, other in atlas.beside.items():
        real = other.shares
        parts.append(real[real["data"] == REAL].assign(data=name))
    return pd.concat([part.astype({"data": str, "verdict": str}) for part in parts], ignore_index=True)
