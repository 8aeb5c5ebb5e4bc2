"""A transcoder set on disk: circuit-tracer's per-layer layout, with our own record in scx.json beside it.

config.yaml            what circuit-tracer reads (model_kind, hooks, activation)
layer_{i}.safetensors  W_enc, W_dec [F, d], b_enc [F], b_dec [d]; W_skip [d, d] and
                       activation_function.threshold [F] where there are any
scx.json               kind, k, configuration, provenance, metrics
A cross-layer set has a layout of its own (layouts/cross_layer.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from scx_core.transcoders.layouts import import_set, write_set
from scx_core.transcoders.module import TranscoderSet

MODELS = Path(__file__).resolve().parents[2] / "models"
EMBEDDED_SETS = {
    "embedded": MODELS / "embedded-transcoders",
    "embedded-paper": MODELS / "embedded-transcoders-paper",
    "planted": MODELS / "planted-transcoders",
}


def save_set(
    folder: Path | str, transcoders: TranscoderSet, meta: Mapping[str, Any] | None = None
) -> TranscoderSet:
    """Write a set and return it as saved. `meta` is added to the set's own; float32 on disk, no timestamps.

    scx.json comes last: a folder without it that has ours beside is not whole. Raises ScxError when the
    disk is full.
    """
    folder = Path(folder)
    record = {**transcoders.meta, **(meta or {})}
    return write_set(folder, replace(transcoders, meta=record), "circuit-tracer")


def load_set(
    source: Path | str = "embedded", device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> TranscoderSet:
    """The set in a folder, or "embedded" / "embedded-paper" / "planted". Also reads the layouts of
    circuit-tracer, sparsify and SAELens (no scx.json).

    Raises ScxError naming the file when a layer is missing, broken, or holds what is not known here.
    """
    return import_set(EMBEDDED_SETS.get(str(source), Path(source)), device, dtype)
