"""Verdict shares of an atlas beside its baselines and nulls, and of the units that are held beside it."""

from __future__ import annotations

import pandas as pd

from scx_core.atlas.collect.directions import EMBEDDING, ONE_HOT
from scx_core.atlas.collect.token_slots import DATA
from scx_core.atlas.collect.token_slots import REAL as REAL_DATA
from scx_core.atlas.judge.excess import is_random
from scx_core.atlas.judge.protocol import verdict_shares
from scx_core.atlas.tables.atlas import Atlas

ALL_LAYERS = -1
REAL = DATA[REAL_DATA]
RANDOM_WORDS, EMBEDDING_WORDS = "random directions", "embedding's directions"
ONE_HOT_WORDS = "token's one-hot"


def compared_shares(atlas: Atlas) -> pd.DataFrame:
    """Rows layer (−1: all), data, verdict, share, features (live ones): the real data, the baselines (of
    random directions the mean of the draws), both nulls, then the real data of each atlas beside it under
    that one's name. The choosing half is left out."""
    own = atlas.shares
    nulls = own[own["data"].isin(DATA) & (own["data"] != REAL)]
    parts = [own[own["data"] == REAL], *_baselines(atlas), nulls]
    for name, other in atlas.beside.items():
        real = other.shares
        parts.append(real[real["data"] == REAL].assign(data=name))
    return pd.concat([part.astype({"data": str, "verdict": str}) for part in parts], ignore_index=True)


def _baselines(atlas: Atlas) -> list[pd.DataFrame]:
    rows = atlas.table("baselines")
    if not len(rows):
        return []
    by_source = {str(name): part for name, part in rows.groupby("source", observed=True, sort=False)}
    shares = {name: verdict_shares({name: part.astype({"verdict": str})}) for name, part in by_source.items()}
    drawn = pd.concat([one for name, one in shares.items() if is_random(name)])
    mean = drawn.groupby(["layer", "verdict"], sort=False, as_index=False)[["share", "features"]].mean()
    words = {EMBEDDING: EMBEDDING_WORDS, ONE_HOT: ONE_HOT_WORDS}
    rest = [shares[name].assign(data=said) for name, said in words.items()]
    return [mean.assign(data=RANDOM_WORDS).astype({"features": int})[rest[0].columns], *rest]
