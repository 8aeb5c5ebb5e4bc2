"""What every layout does: read a layer's tensors and settings with all checks, and write them whole.

Shapes are words of two letters, F features and d width: "Fd" is [F, d]. Legend: T tokens, N pre-activations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from scx_core.errors import ScxError
from scx_core.runs import read_json
from scx_core.runs.files import check_object, replace_atomic
from scx_core.transcoders.module import Reads, Transcoder

Tensors = dict[str, torch.Tensor]
RECORD = "scx.json"  # our own record beside any layout: name, configuration, provenance, metrics
AGAIN = "Restore the file, or save the set again."
CHUNK = 4096  # tokens at a time: their pre-activations are all in memory
_SHOWN = 6  # missing layers that are named


class LoadedSet(NamedTuple):
    """A set as its layout holds it: layers, what the settings say about them, and the files that count."""

    layers: tuple[Transcoder, ...]
    meta: dict[str, Any]
    files: tuple[Path, ...]
    reads: Reads = "input"


class Placement(NamedTuple):
    """Where tensors go, and in which precision."""

    device: torch.device | str = "cpu"
    dtype: torch.dtype = torch.float32


class DiskLayout(NamedTuple):
    """A way to lay a set out in a folder, as a peer's own library reads it.

    `kinds` are the gates that it holds, `sae_kinds` those of SAEs; `recognises` looks at the files only;
    `read` takes the folder, our own record (empty where there is none) and the place; `write` gives back
    the files that count, as `read`.
    """

    name: str
    files: str
    kinds: frozenset[str]
    recognises: Callable[[Path], bool]
    read: Callable[[Path, Mapping[str, Any], Placement], LoadedSet]
    write: Callable[[Path, tuple[Transcoder, ...], Mapping[str, Any]], tuple[Path, ...]]
    sae_kinds: frozenset[str] = frozenset()


def read_tensors(
    path: Path,
    required: Mapping[str, str],
    optional: Mapping[str, str],
    place: Placement,
    known: Mapping[str, int] = MappingProxyType({}),
) -> Tensors:
    """The tensors of a safetensors file, with the shapes that are expected. The first one tells F and d;
    other letters are `known`.

    Raises ScxError naming the file and the tensor when one is missing, unknown, of another shape, no float
    or not finite.
    """
    try:
        found = load_file(path, device=str(place.device))
    # A type of numbers that PyTorch does not have is a KeyError or AttributeError there.
    except (SafetensorError, OSError, KeyError, AttributeError, ValueError, OverflowError) as error:
        raise ScxError(f"{path} could not be read ({str(error)[:200]}).", AGAIN) from error
    missing, unknown = set(required) - set(found), set(found) - set(required) - set(optional)
    if missing or unknown:
        raise ScxError(
            f"{path} lacks {_listed(missing)}; unknown: {_listed(unknown)}.",
            f"A layer holds {', '.join(required)} and may hold {', '.join(optional)}.",
        )
    shapes = {**required, **optional}
    first = next(iter(required))
    sizes = dict(known) | dict(zip(shapes[first], found[first].shape, strict=False))
    return {
        name: _checked(
            path, name, tensor, tuple(sizes.get(letter, 0) for letter in shapes[name]), place.dtype
        )
        for name, tensor in found.items()
    }


def _checked(
    path: Path, name: str, tensor: torch.Tensor, wanted: tuple[int, ...], dtype: torch.dtype
) -> torch.Tensor:
    """The tensor in the precision that is asked for: a number can be too large for it."""
    if tuple(tensor.shape) != wanted or 0 in wanted:
        raise ScxError(f"{path}: {name} has the shape {tuple(tensor.shape)}, expected {wanted}.", AGAIN)
    if not tensor.is_floating_point():
        raise ScxError(f"{path}: {name} is of the type {tensor.dtype}, expected floating point.", AGAIN)
    tensor = tensor.to(dtype)
    bad = int((~torch.isfinite(tensor)).sum())
    if bad:
        raise ScxError(
            f"{path}: {name} has {bad} values that are not numbers (NaN or infinite).",
            "Take an earlier checkpoint: these weights cannot be used.",
        )
    return tensor


def write_tensors(path: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    """Write float32 tensors, whole or not at all. Raises ScxError when the disk is full."""
    plain = {name: tensor.detach().float().cpu().contiguous() for name, tensor in tensors.items()}
    replace_atomic(path, lambda temporary: save_file(plain, temporary))


def one_folder_down(folder: Path, weights: str) -> bool:
    """Whether a folder holds layers in folders of their own (or is itself one: then one was pointed to)."""
    return (folder / weights).exists() or any(folder.glob(f"*/{weights}"))


def check_all_layers(folder: Path, weights: str) -> None:
    """Raises ScxError for the folder of a single layer."""
    if (folder / weights).exists():
        raise ScxError(f"{folder} holds one layer.", "Point to the folder above, which has all layers.")


def files_of(parts: Sequence[Path], *names: str) -> tuple[Path, ...]:
    """The files that count, of layers in folders of their own."""
    return tuple(part / name for part in parts for name in names)


def read_settings(path: Path) -> dict[str, Any]:
    """A JSON object. Raises ScxError naming the file when it is absent, broken, or something else."""
    settings = read_json(path)
    if not isinstance(settings, dict):
        raise ScxError(f"{path} holds {type(settings).__name__}, expected a JSON object.", AGAIN)
    return settings


# What is asked of our own record: the rest is for people. Any text, number or list may be in it.
_NUMBER = (int, float, type(None))
_STATED = {"name": (str, type(None)), "fingerprint": (str, type(None))}
KINDS: dict[str, Any] = {
    "name": str,
    "model_name": str,
    "form": str,
    "n_layers": int,
    "n_features": int,
    "width": int,
    "train": {},
    "transcoder": {},
    "sentences": {},
    "split": {"choose": (int, float)},
    "provenance": {"data": _STATED, "model": _STATED, "transcoders": _STATED},
    "metrics": {"ce_recovered": _NUMBER, "cells": int, "per_layer": [{"dead": _NUMBER}]},
}


def read_record(folder: Path) -> dict[str, Any]:
    """Our own record of a set; empty where another tool wrote the folder. Raises ScxError where what is asked
    of it is of another kind."""
    path = folder / RECORD
    return check_object(read_settings(path), KINDS, path) if path.exists() else {}


def expect(path: Path, settings: Mapping[str, Any], key: str, wanted: tuple[Any, ...], remedy: str) -> None:
    """Raises ScxError unless the setting is one of those wanted; an absent one is the first of them."""
    value = settings.get(key, wanted[0])
    if not any(type(value) is type(one) and value == one for one in wanted):
        listed = " or ".join(repr(one) for one in wanted)
        raise ScxError(f"{path}: {key} is {repr(value)[:80]}, expected {listed}.", remedy)


def whole_number(path: Path, settings: Mapping[str, Any], key: str) -> int:
    """A setting that is a whole number above 0. Raises ScxError naming it when it is not."""
    value = settings.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ScxError(f"{path}: {key} is {repr(value)[:80]}, expected a whole number above 0.", AGAIN)
    return value


def in_order(folder: Path, parts: Iterable[tuple[int, Path]], name: str) -> list[Path]:
    """The parts of layers 0, 1, 2 …. Raises ScxError naming those that are missing or there twice.

    `name` is what a part is called, with {layer} in it.
    """
    found: dict[int, Path] = {}
    for layer, part in parts:
        if layer in found:
            problem = f"{found[layer]} and {part.name} are both of layer {layer}."
            raise ScxError(problem, "Keep one of them.")
        found[layer] = part
    last = max(found, default=0)
    missing = [name.format(layer=n) for n in islice((n for n in range(last + 1) if n not in found), _SHOWN)]
    if missing:
        raise ScxError(
            f"{folder} should hold layers 0 to {last}, missing: {', '.join(missing)}"
            f"{' …' if len(missing) == _SHOWN else ''}.",
            "Copy the missing ones, or save the set again.",
        )
    return [found[layer] for layer in sorted(found)]


def _listed(names: set[str]) -> str:
    return ", ".join(sorted(name[:60] for name in names)) or "nothing"


@torch.no_grad()
def with_thresholds(coder: Transcoder, x_Td: torch.Tensor) -> Transcoder:
    """A TopK transcoder as JumpReLU, with one threshold that lets k features a token pass on average on x.

    TopK has k for each token: the two agree on average and not token by token.
    """
    wanted = min(coder.k or 0, coder.n_features) * len(x_Td)
    largest_N = x_Td.new_empty(0, dtype=coder.W_enc_Fd.dtype)
    for part_Td in x_Td.split(CHUNK):
        positive_N = coder.pre(part_Td.to(coder.W_enc_Fd.device)).flatten()
        largest_N = torch.cat([largest_N.to(positive_N.device), positive_N[positive_N > 0]])
        largest_N = largest_N.topk(min(wanted + 1, len(largest_N)), sorted=False).values
    threshold = 0.0
    if len(largest_N) > wanted:
        # Between the last that passes and the first that is one too many: a product of other shape rounds
        # otherwise, and a threshold on a value itself would let it pass or not by chance.
        threshold = float(largest_N.topk(min(2, len(largest_N)), largest=False).values.double().mean())
    threshold_F = torch.full_like(coder.b_enc_F, threshold)
    return replace(coder, kind="jumprelu", k=None, threshold_F=threshold_F)


def as_relu(coder: Transcoder) -> Transcoder:
    """TopK that lets every feature pass is ReLU, exactly; any other transcoder comes back as it is."""
    everything = coder.kind == "topk" and (coder.k or 0) >= coder.n_features
    return replace(coder, kind="relu", k=None) if everything else coder
