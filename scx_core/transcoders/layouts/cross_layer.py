"""A cross-layer set on disk: a layout of our own, as no peer's loader takes all of its gates and skip terms.

cross_layer_{m}.safetensors  W_enc [F, d], b_enc [F], b_dec [d], W_dec [L − m, F, d] (to layer m, m + 1 …);
                             W_skip [d, d] and threshold [F] where there are any
scx.json                     kind cross_layer, gate, k, n_layers, configuration, provenance, metrics
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast, get_args

import torch

from scx_core.errors import ScxError
from scx_core.runs import write_json
from scx_core.transcoders.cross_layer import CrossLayerSet
from scx_core.transcoders.layouts.parts import (
    AGAIN,
    RECORD,
    Placement,
    in_order,
    read_record,
    read_settings,
    read_tensors,
    whole_number,
    write_tensors,
)
from scx_core.transcoders.module import Kind, Transcoder, from_tensors

KIND, FILE = "cross_layer", "cross_layer_{layer}.safetensors"
REQUIRED = {"W_enc": "Fd", "W_dec": "SFd", "b_enc": "F", "b_dec": "d"}
OPTIONAL = {"W_skip": "dd", "threshold": "F"}


def recognises(folder: Path) -> bool:
    """By the layers' files."""
    return any(folder.glob(FILE.format(layer="*")))


def write(folder: Path, coders: CrossLayerSet, record: Mapping[str, Any]) -> tuple[CrossLayerSet, list[Path]]:
    """Write a set and our record last. The set comes back with that record, and the files that count.

    Raises ScxError when the folder holds a set of another form, or the disk is full.
    """
    if (folder / "config.yaml").exists():
        raise ScxError(f"{folder} holds a per-layer set.", "Give another folder.")
    first = coders.layers[0]
    facts = {
        "kind": KIND,
        "gate": first.kind,
        "k": first.k,
        "reads": coders.reads,
        "n_layers": len(coders.layers),
        "n_features": first.n_features,
        "width": first.width,
    }
    made = {"name": folder.name, **record, **facts}
    (folder / RECORD).unlink(missing_ok=True)
    files = [folder / FILE.format(layer=layer) for layer in range(len(coders.layers))]
    for path, own, W_SFd in zip(files, coders.layers, coders.cross, strict=True):
        write_tensors(path, own.tensors() | {"W_dec": torch.cat([own.W_dec_Fd[None], W_SFd])})
    for stale in set(folder.glob(FILE.format(layer="*"))) - set(files):
        stale.unlink()
    write_json(folder / RECORD, made)
    return replace(coders, meta=made, folder=folder), files


def read(folder: Path, place: Placement) -> tuple[CrossLayerSet, list[Path]]:
    """The set and the files that count. Raises ScxError naming the file that is missing or broken."""
    path = folder / RECORD
    record = read_record(folder) or read_settings(path)
    gate = record.get("gate")
    if record.get("kind") != KIND or gate not in get_args(Kind):
        raise ScxError(f"{path} does not describe a cross-layer set.", AGAIN)
    n, k = whole_number(path, record, "n_layers"), None
    if gate == "topk":
        k = whole_number(path, record, "k")
    prefix, suffix = FILE.split("{layer}")
    numbers = {
        file: file.name.removeprefix(prefix).removesuffix(suffix) for file in folder.glob(f"{prefix}*")
    }
    files = in_order(folder, [(int(text), file) for file, text in numbers.items() if text.isdecimal()], FILE)
    if len(files) != n:
        raise ScxError(f"{folder} holds {len(files)} layers, {RECORD} speaks of {n}.", AGAIN)
    layers: list[Transcoder] = []
    cross: list[torch.Tensor] = []
    for layer, file in enumerate(files):
        tensors = read_tensors(file, REQUIRED, OPTIONAL, place, {"S": n - layer})
        cross.append(tensors["W_dec"][1:])
        layers.append(from_tensors(tensors | {"W_dec": tensors["W_dec"][0]}, cast(Kind, gate), k))
    return CrossLayerSet(tuple(layers), record, folder=folder, cross=tuple(cross)), files
