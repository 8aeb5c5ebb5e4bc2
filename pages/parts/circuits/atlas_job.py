"""The atlas of a set that has none: made in the background while a person looks at its circuits."""

from __future__ import annotations

from pathlib import Path

from pages.parts.common import loaders
from pages.parts.common.session import Context
from pages.parts.common.words import duration, percent, safe
from pages.parts.features import atlas_source
from scx_core.atlas.atlas_folder import AtlasJob, job_of, launch_atlas
from scx_core.errors import ScxError

MOST_FEATURES = 50_000  # of a set whose atlas is begun without being asked for
ELSEWHERE = "The page Features makes an atlas of them, and names from it."


def atlas_under_way(ctx: Context) -> str:
    """Begin the atlas of the set in use if it has none; how far it is, in a sentence."""
    lm, coders, table = loaders.language(ctx), loaders.transcoders(ctx), loaders.cells(ctx)
    if not coders.fingerprint or coders.n_features * len(coders.layers) > MOST_FEATURES:
        return ELSEWHERE
    cfg = atlas_source.config(ctx)
    run = job_of(lm, coders, table, cfg)
    if run is None:
        parts = (_absolute(source) for source in (ctx.data, ctx.model, ctx.transcoders))
        try:
            run = launch_atlas(AtlasJob(*parts, ctx.device, ctx.cells, cfg), lm, coders, table)
        except ScxError:
            return ELSEWHERE
    status = run.status()
    if status.state == "running":
        share = percent(status.done / status.total) if status.total else "0%"
        left = f", {duration(status.eta_s)} left" if status.eta_s else ""
        return f"An atlas of them is being made in the background ({share}{left}); its names come with it."
    if status.state == "done":
        return "Their atlas is ready: reload the page for its names."
    return f"Their atlas could not be made: {safe(status.error or status.message)} {ELSEWHERE}"


def _absolute(source: str) -> str:
    return str(Path(source).resolve()) if Path(source).exists() else source
