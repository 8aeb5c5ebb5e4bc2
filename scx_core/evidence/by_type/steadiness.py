"""Is a type's circuit the same over cells, donors, tie orders, templates and transcoder sets?

What `scx evidence stability` measures (stability.py), of genes alone and with fewer draws, as the parts of
level 4: for each thing changed Jaccard's index of the twenty strongest genes, its interval, and what chance
gives. What was not changed says why.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from scx_core.circuits import Tracer
from scx_core.circuits.stability import trained_on
from scx_core.evidence.stability import StabilityConfig, stability
from scx_core.runs.progress import Progress, silent
from scx_core.transcoders import TranscoderSet

STABILITY = "stability"  # the question that varies more
PROMPTS = 3  # templates at most
WHY = {
    "donors": "fewer than two donors are known",
    "prompts": "the model was trained on one template",
    "transcoder seeds": "no other transcoder set of this model was given",
    "model seeds": "no other model was given (scx evidence stability --other-model)",
}


def steadiness_of(
    tracer: Tracer,
    label: str,
    answer: str,
    rows: np.ndarray,
    others: Sequence[TranscoderSet] = (),
    varied: int = 8,
    seed: int = 0,
    progress: Progress = silent,
) -> list[dict[str, Any]]:
    """The parts of level 4 for these cells; ties, templates and sets are varied on the first `varied`."""
    cfg = StabilityConfig(cells=len(rows), varied=varied, splits=10, resamples=40, draws=40, seed=seed)
    prompts = [name for name in trained_on(tracer.lm) if name != tracer.lm.sentence_config.prompt]
    asked: dict[str, Any] = {"answer": answer, "rows": rows, "prompts": prompts[:PROMPTS], "sets": others}
    found = stability(tracer, label, **asked, kinds=("genes",), cfg=cfg, progress=progress)
    left = [_not_asked(name, WHY.get(name, why)) for name, why in found.left_out.items()]
    return [*parts_of(found.to_json()), *left]


def parts_of(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The parts of level 4 in the JSON of a `Stability`: `what`, `jaccard` (mean, low, high), comparisons,
    `chance`, `n` cells, `units` of them, what the `interval` is."""
    parts = []
    for axis in found["axes"]:
        one = next(row for row in axis["figures"] if (row["kind"], row["figure"]) == ("genes", "top 20"))
        parts.append(
            {
                "what": axis["name"],
                "jaccard": {"mean": one["value"], "low": one["low"], "high": one["high"]},
                "comparisons": axis["pairs"],
                "chance": one["chance"],
                "n": axis["n"],
                "units": "cells",
                "interval": axis["interval"],
                "why": "",
            }
        )
    return parts


def varied(own: Sequence[Mapping[str, Any]], further: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The parts of a record, and of what further answers varied those that the record did not."""
    measured = {part["what"] for part in own if part["jaccard"] is not None}
    more: dict[str, dict[str, Any]] = {}
    for one in further:
        for part in one["parts"]:
            if part["what"] not in measured:
                more.setdefault(part["what"], dict(part))
    return [*(dict(one) for one in own if one["what"] not in more), *more.values()]


def _not_asked(what: str, why: str) -> dict[str, Any]:
    nothing: dict[str, Any] = {"jaccard": None, "comparisons": 0, "chance": None, "n": 0}
    return {"what": what, **nothing, "units": "cells", "interval": "", "why": why}
