"""Layouts of transcoder sets on disk: our own, which is circuit-tracer's, and those of sparsify and SAELens.

In comes a folder that any of these tools wrote, out goes a `TranscoderSet`; or the other way round. What a
layout cannot hold is refused with what would help: nothing is approximated in silence.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from scx_core.errors import ScxError
from scx_core.places import models_folder
from scx_core.runs import sha256_of, write_json
from scx_core.runs.files import TEMPORARY, check_links, is_folder
from scx_core.transcoders.cross_layer import CrossLayerSet
from scx_core.transcoders.layouts import circuit_tracer, cross_layer, saelens, sparsify
from scx_core.transcoders.layouts.parts import (
    RECORD,
    DiskLayout,
    Placement,
    as_relu,
    read_record,
    with_thresholds,
)
from scx_core.transcoders.module import Kind, Transcoder, TranscoderSet

MODELS = models_folder()
EMBEDDED_SETS = {
    "embedded": MODELS / "embedded-transcoders",
    "embedded-paper": MODELS / "embedded-transcoders-paper",
    "planted": MODELS / "planted-transcoders",
}
LAYOUTS: dict[str, DiskLayout] = {
    module.LAYOUT.name: module.LAYOUT for module in (circuit_tracer, sparsify, saelens)
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


def detect(folder: Path | str) -> str:
    """The layout of a folder, by its files. Raises ScxError when it has none, or two."""
    folder = Path(folder)
    if not is_folder(folder):
        raise ScxError(
            f"There is no transcoder folder {str(folder)[:200]}.", "Check the path, or train a set first."
        )
    found = [name for name, layout in LAYOUTS.items() if layout.recognises(folder)]
    if len(found) == 1:
        return found[0]
    if found:
        raise ScxError(f"{folder} holds sets in the layouts {' and '.join(found)}.", "Keep one in a folder.")
    expected = "; ".join(f"{name} ({layout.files})" for name, layout in LAYOUTS.items())
    others = sorted(path.name for path in folder.iterdir() if path.suffix in {".pt", ".pth", ".bin", ".npz"})
    hint = f"Weights are read from safetensors only: {others[0]} is not opened." if others else ""
    if (folder / "transcoders").is_dir():
        hint = f"It is the folder of a run: its set is {folder / 'transcoders'}."
    raise ScxError(f"{folder} holds no transcoder set. Expected: {expected}.", hint or "Check the path.")


def import_set(
    folder: Path | str, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> TranscoderSet:
    """The set in a folder of any layout. `meta` is our own record, or what the layout itself says.

    Raises ScxError naming the file when a layer is missing, broken, not finite, or holds what is not known.
    """
    folder = Path(folder)
    there = is_folder(folder)
    if there:
        check_links(folder)
    if there and cross_layer.recognises(folder):
        found_set, files = cross_layer.read(folder, Placement(device, dtype))
        return replace(found_set, fingerprint=fingerprint(files))
    name = detect(folder)
    record = read_record(folder)
    found = LAYOUTS[name].read(folder, record, Placement(device, dtype))
    # a set is whole and has one gate: everything after this speaks of the kind and the k of a set
    expected = record.get("n_layers", len(found.layers))
    if expected != len(found.layers):
        problem = f"{folder} holds {len(found.layers)} layers, {RECORD} speaks of {str(expected)[:20]}."
        raise ScxError(problem, "Copy the missing ones, or save the set again.")
    gates = [(coder.kind, coder.k) for coder in found.layers]
    for layer, gate in enumerate(gates):
        if gate != gates[0]:
            (kind, k), (first, first_k) = gate, gates[0]
            raise ScxError(
                f"Layer {layer} of {folder} is {kind} with k {k}, layer 0 is {first} with k {first_k}.",
                "All layers of a set are of one kind.",
            )
    meta = record or {**found.meta, "name": folder.name, "layout": name}
    return TranscoderSet(found.layers, meta, fingerprint(found.files), folder, found.reads)


def export_set(
    transcoders: TranscoderSet,
    folder: Path | str,
    layout: str,
    *,
    inputs: Sequence[torch.Tensor] | None = None,
) -> TranscoderSet:
    """Write a set into an empty folder in a peer's layout, float32, and return it as it reads from there.

    `inputs` are MLP inputs [T, d] of every layer: a TopK set gets thresholds from them where the layout has
    no TopK. Raises ScxError when the layout is unknown or cannot hold the set, or the folder is in use.
    """
    folder = Path(folder)
    if layout not in LAYOUTS:
        raise ScxError(f"There is no layout {layout[:60]!r}.", f"Known: {', '.join(LAYOUTS)}.")
    check_empty(folder)
    layers = _held(transcoders, LAYOUTS[layout], inputs)
    _check_finite(layers)
    meta = {**transcoders.meta, "name": transcoders.meta.get("name") or folder.name, "layout": layout}
    if transcoders.fingerprint:
        meta["exported_from"] = transcoders.fingerprint
    if layers[0].kind != transcoders.kind:
        meta["calibrated_from"] = {"kind": transcoders.kind, "k": transcoders.layers[0].k}
        meta.pop("metrics", None)  # measured on another gate
    making = folder.with_name(f"{TEMPORARY}{folder.name}")
    shutil.rmtree(making, ignore_errors=True)
    try:
        write_set(making, replace(transcoders, layers=layers, meta=meta), layout)
        if folder.exists():
            folder.rmdir()
        making.rename(folder)
    finally:
        shutil.rmtree(making, ignore_errors=True)
    return import_set(folder)


def check_empty(folder: Path | str) -> None:
    """Raises ScxError for what is there already, unless it is an empty folder."""
    folder = Path(folder)
    if os.path.lexists(folder) and (not folder.is_dir() or any(folder.iterdir())):
        raise ScxError(f"{folder} is in use.", "Give a folder that is empty or does not exist yet.")


def write_set(folder: Path, transcoders: TranscoderSet, layout: str) -> TranscoderSet:
    """Write a set that the layout holds, and our record last: a folder of ours without it is not whole.

    The set comes back with that record and its fingerprint.
    """
    if isinstance(transcoders, CrossLayerSet):
        made, written = cross_layer.write(folder, transcoders, transcoders.meta)
        return replace(made, fingerprint=fingerprint(written))
    first = transcoders.layers[0]
    facts = {
        "kind": first.kind,
        "k": first.k,
        "reads": transcoders.reads,
        "n_layers": len(transcoders.layers),
        "n_features": first.n_features,
        "width": first.width,
    }
    record = {"name": folder.name, **transcoders.meta, **facts}
    (folder / RECORD).unlink(missing_ok=True)
    files = LAYOUTS[layout].write(folder, transcoders.layers, record)
    write_json(folder / RECORD, record)
    return TranscoderSet(transcoders.layers, record, fingerprint(files), folder, transcoders.reads)


def fingerprint(files: Sequence[Path]) -> str:
    """sha256 over the settings and the layers: what the set computes, whatever else lies in the folder."""
    return hashlib.sha256("".join(sha256_of(file) for file in files).encode()).hexdigest()


def _check_finite(layers: Sequence[Transcoder]) -> None:
    for layer, coder in enumerate(layers):
        for name, tensor in coder.tensors().items():
            if not torch.isfinite(tensor).all():
                problem = f"Layer {layer}: {name} has values that are not numbers (NaN or infinite)."
                raise ScxError(problem, "Nothing was written; take an earlier checkpoint.")


def _held(
    transcoders: TranscoderSet, layout: DiskLayout, inputs: Sequence[torch.Tensor] | None
) -> tuple[Transcoder, ...]:
    """The layers as the layout can hold them. Raises ScxError when it cannot."""
    layers = tuple(as_relu(coder) for coder in transcoders.layers)
    kind = layers[0].kind
    if transcoders.form == "cross-layer":
        problem = (
            f"{layout.name} holds one decoder a layer: a cross-layer set has one for each later layer too."
        )
        raise ScxError(problem, "Copy the set's own folder: it is safetensors and JSON.")
    if transcoders.form == "sae":
        return _held_saes(layers, kind, layout)
    if kind in layout.kinds:
        return layers
    if kind == "topk" and inputs is None:
        raise ScxError(
            f"{layout.name} has no TopK, and this set has no thresholds.",
            "Give cells to calibrate JumpReLU thresholds on (--calibrate), or export to sparsify.",
        )
    if kind != "topk":
        held = ", ".join(name for name, other in LAYOUTS.items() if kind in other.kinds)
        raise ScxError(f"{layout.name} cannot hold a set of the kind {kind}.", f"Export to {held}.")
    if len(inputs or ()) != len(layers):
        raise ScxError(f"There are inputs for {len(inputs or ())} layers, expected {len(layers)}.")
    return tuple(with_thresholds(coder, x_Td) for coder, x_Td in zip(layers, inputs or (), strict=True))


def _held_saes(layers: tuple[Transcoder, ...], kind: Kind, layout: DiskLayout) -> tuple[Transcoder, ...]:
    if kind not in layout.sae_kinds:
        held = {
            name: ", ".join(sorted(other.sae_kinds)) for name, other in LAYOUTS.items() if other.sae_kinds
        }
        raise ScxError(
            f"{layout.name} cannot hold SAEs of MLP outputs of the kind {kind} here.",
            f"Export to {'; '.join(f'{name} ({kinds})' for name, kinds in held.items())}.",
        )
    return layers
