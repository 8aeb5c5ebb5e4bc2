"""sparsify's run folder (eai-sparsify): one folder a layer, named as its hook point.

layers.{i}.mlp/sae.safetensors  encoder.weight, W_dec [F, d], encoder.bias [F], b_dec [d], W_skip [d, d]
layers.{i}.mlp/cfg.json         activation, num_latents, k, transcode, skip_connection, d_in …
It knows TopK only. TopK with k = F lets every positive feature pass, so that a ReLU set fits exactly.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from scx_core.errors import ScxError
from scx_core.runs import write_json
from scx_core.transcoders.layouts.parts import (
    DiskLayout,
    LoadedSet,
    Placement,
    check_all_layers,
    expect,
    files_of,
    in_order,
    one_folder_down,
    read_settings,
    read_tensors,
    whole_number,
    write_tensors,
)
from scx_core.transcoders.module import Transcoder, from_tensors

WEIGHTS, SETTINGS = "sae.safetensors", "cfg.json"
REQUIRED = {"encoder.weight": "Fd", "encoder.bias": "F", "W_dec": "Fd", "b_dec": "d"}
OPTIONAL = {"W_skip": "dd"}
OURS = {"encoder.weight": "W_enc", "encoder.bias": "b_enc"}
FOLDER = "layers.{layer}.mlp"
_HOOK_POINT = re.compile(r"(?:.*\.)?(?:layers|h|blocks)\.(\d{1,6})\.mlp")


def read(folder: Path, record: Mapping[str, Any], place: Placement) -> LoadedSet:
    """The set. Other hook points than MLPs are left out: residual SAEs may lie beside."""
    check_all_layers(folder, WEIGHTS)
    found = [
        (int(match[1]), part)
        for part in sorted(folder.iterdir())
        if part.is_dir() and (match := _HOOK_POINT.fullmatch(part.name))
    ]
    ordered = in_order(folder, found, FOLDER)
    layers = tuple(_read_layer(part, place) for part in ordered)
    return LoadedSet(layers, {}, files_of(ordered, SETTINGS, WEIGHTS))


def write(folder: Path, layers: tuple[Transcoder, ...], record: Mapping[str, Any]) -> tuple[Path, ...]:
    """Write the set: layers of the kind topk, or relu as topk with k = F."""
    names = {name: theirs for theirs, name in OURS.items()}
    for layer, coder in enumerate(layers):
        part = folder / FOLDER.format(layer=layer)
        write_tensors(
            part / WEIGHTS, {names.get(name, name): tensor for name, tensor in coder.tensors().items()}
        )
        n_features = coder.n_features
        settings = {
            "activation": "topk",
            "expansion_factor": max(1, n_features // coder.width),  # num_latents goes before it
            "normalize_decoder": False,
            "num_latents": n_features,
            "k": n_features if coder.kind == "relu" else min(coder.k or 0, n_features),
            "multi_topk": False,
            "skip_connection": coder.W_skip_dd is not None,
            "transcode": True,
            "d_in": coder.width,
        }
        write_json(part / SETTINGS, settings)
    parts = [folder / FOLDER.format(layer=layer) for layer in range(len(layers))]
    return files_of(parts, SETTINGS, WEIGHTS)


def _read_layer(part: Path, place: Placement) -> Transcoder:
    path = part / SETTINGS
    settings = read_settings(path)
    k = whole_number(path, settings, "k")
    expect(path, settings, "activation", ("topk",), "Only TopK is known here.")
    expect(path, settings, "signed", (False,), "Features with negative activations are not known here.")
    if settings.get("transcode") is not True:
        raise ScxError(
            f"{path}: transcode is not true: it is an SAE.",
            "Only transcoders are taken from sparsify; SAEs of MLP outputs are read in SAELens's layout.",
        )
    tensors = read_tensors(part / WEIGHTS, REQUIRED, OPTIONAL, place)
    if bool(settings.get("skip_connection")) != ("W_skip" in tensors):
        raise ScxError(
            f"{path}: skip_connection is {bool(settings.get('skip_connection'))}, but {WEIGHTS} "
            f"{'has a' if 'W_skip' in tensors else 'has no'} W_skip.",
            "Restore the file, or save the set again.",
        )
    plain = {OURS.get(name, name): tensor for name, tensor in tensors.items()}
    everything = k >= len(plain["b_enc"])
    return from_tensors(plain, "relu" if everything else "topk", None if everything else k)


LAYOUT = DiskLayout(
    "sparsify",
    "layers.0.mlp/sae.safetensors with cfg.json …",
    frozenset({"relu", "topk"}),
    partial(one_folder_down, weights=WEIGHTS),
    read,
    write,
)
