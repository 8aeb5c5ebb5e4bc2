"""SAELens: one folder a layer, each with cfg.json and sae_weights.safetensors.

The weights are W_enc **transposed** [d_in, F], W_dec [F, d_out], b_enc [F], b_dec [d_out], threshold [F] and
W_skip [d_out, d_in] (applied as x @ W_skip.T, as here). The architecture says which of them there are, and
whether it is an SAE (standard, jumprelu), whose one hook is the MLP's output and which has no d_out. A
layer's number is that of its hook, metadata.hook_name, else that of its folder.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

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
    write_tensors,
)
from scx_core.transcoders.module import Kind, Reads, Transcoder, from_tensors

WEIGHTS, SETTINGS, FOLDER = "sae_weights.safetensors", "cfg.json", "layer_{layer}"
INPUT_HOOK, OUTPUT_HOOKS = "mlp.hook_in", ("hook_mlp_out", "mlp.hook_out")
REQUIRED = {"W_enc": "dF", "W_dec": "Fd", "b_enc": "F", "b_dec": "d"}
_HOOK = re.compile(r"(?:.*\.)?(?:blocks|layers|h)\.(\d{1,6})\.(.+)")
_NUMBER = re.compile(r".*?(\d{1,6})(?:\D*)")


class SaeArchitecture(NamedTuple):
    """Which gate, whether there is a skip term, and what of the MLP is read."""

    kind: Kind
    skip: bool
    reads: Reads = "input"

    @property
    def optional(self) -> dict[str, str]:
        """The shapes of the tensors that it has beside the usual ones."""
        return ({"W_skip": "dd"} if self.skip else {}) | (
            {"threshold": "F"} if self.kind == "jumprelu" else {}
        )


ARCHITECTURES = {
    "transcoder": SaeArchitecture("relu", False),
    "skip_transcoder": SaeArchitecture("relu", True),
    "jumprelu_transcoder": SaeArchitecture("jumprelu", False),
    "jumprelu_skip_transcoder": SaeArchitecture("jumprelu", True),
    "standard": SaeArchitecture("relu", False, "output"),
    "jumprelu": SaeArchitecture("jumprelu", False, "output"),
}


def read(folder: Path, record: Mapping[str, Any], place: Placement) -> LoadedSet:
    """The set."""
    check_all_layers(folder, WEIGHTS)
    parts = sorted({path.parent for name in (SETTINGS, WEIGHTS) for path in folder.glob(f"*/{name}")})
    ordered = in_order(
        folder, [(_layer_of(part, read_settings(part / SETTINGS)), part) for part in parts], FOLDER
    )
    layers = tuple(_read_layer(part, place) for part in ordered)
    reads = {_architecture(part).reads for part in ordered}
    if len(reads) > 1:
        raise ScxError(f"{folder} holds transcoders and SAEs.", "Put each set in a folder of its own.")
    name = _metadata(read_settings(ordered[0] / SETTINGS)).get("model_name")
    return LoadedSet(
        layers, {"model_name": str(name)} if name else {}, files_of(ordered, SETTINGS, WEIGHTS), reads.pop()
    )


def write(folder: Path, layers: tuple[Transcoder, ...], record: Mapping[str, Any]) -> tuple[Path, ...]:
    """Write the set: layers of the kind relu or jumprelu."""
    for layer, coder in enumerate(layers):
        # Its gate is ReLU and threshold, ours the threshold alone: they are one only from 0 on.
        if coder.threshold_F is not None and bool((coder.threshold_F < 0).any()):
            raise ScxError(
                f"Layer {layer} has thresholds below 0, which SAELens would take as 0.",
                "Export to circuit-tracer instead.",
            )
    for layer, coder in enumerate(layers):
        part, tensors = folder / FOLDER.format(layer=layer), coder.tensors()
        write_tensors(part / WEIGHTS, tensors | {"W_enc": tensors["W_enc"].T})
        write_json(part / SETTINGS, _settings(layer, coder, record))
    parts = [folder / FOLDER.format(layer=layer) for layer in range(len(layers))]
    return files_of(parts, SETTINGS, WEIGHTS)


def _settings(layer: int, coder: Transcoder, record: Mapping[str, Any]) -> dict[str, Any]:
    shape = SaeArchitecture(coder.kind, coder.W_skip_dd is not None, record.get("reads", "input"))
    hook_in, hook_out = f"blocks.{layer}.{INPUT_HOOK}", f"blocks.{layer}.{OUTPUT_HOOKS[0]}"
    sae = shape.reads == "output"
    return {
        "architecture": next(name for name, one in ARCHITECTURES.items() if one == shape),
        "d_in": coder.width,
        "d_sae": coder.n_features,
        **({} if sae else {"d_out": coder.width}),
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": False,
        "normalize_activations": "none",
        "reshape_activations": "none",
        "metadata": {
            "model_name": str(record.get("model_name", "")),
            **({"hook_name": hook_out} if sae else {"hook_name": hook_in, "hook_name_out": hook_out}),
        },
    }


def _metadata(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    found = settings.get("metadata")
    return found if isinstance(found, Mapping) else {}


def _layer_of(part: Path, settings: Mapping[str, Any]) -> int:
    """The layer of a folder. Raises ScxError when its hooks are not an MLP's input and output."""
    metadata, path = _metadata(settings), part / SETTINGS
    numbers = set()
    reads = _architecture(part).reads
    for key, known in (
        ("hook_name", (INPUT_HOOK,) if reads == "input" else OUTPUT_HOOKS),
        ("hook_name_out", OUTPUT_HOOKS),
    ):
        hook = metadata.get(key)
        if not hook:
            continue
        match = _HOOK.fullmatch(str(hook))
        if match is None or match[2] not in known:
            raise ScxError(
                f"{path}: {key} is {str(hook)[:80]!r}, expected blocks.N.{' or blocks.N.'.join(known)}.",
                "Only what reads an MLP's input (an SAE: its output) and gives its output can stand in.",
            )
        numbers.add(int(match[1]))
    if len(numbers) > 1:
        raise ScxError(f"{path}: the hooks are of the layers {sorted(numbers)}.", "They must be of one.")
    match = _NUMBER.fullmatch(part.name)
    if not numbers and match is None:
        raise ScxError(f"{path} does not say its layer.", "Call the folder layer_0, layer_1 …")
    return numbers.pop() if numbers else int(match[1]) if match else 0


def _architecture(part: Path) -> SaeArchitecture:
    """What a layer's settings say that it is. Raises ScxError when that is not known here."""
    name = read_settings(part / SETTINGS).get("architecture")
    if not isinstance(name, str) or name not in ARCHITECTURES:
        raise ScxError(
            f"{part / SETTINGS}: the architecture {str(name)[:60]!r} is not a transcoder known here.",
            f"Known: {', '.join(ARCHITECTURES)}.",
        )
    return ARCHITECTURES[name]


def _read_layer(part: Path, place: Placement) -> Transcoder:
    path = part / SETTINGS
    settings = read_settings(path)
    fold = "Fold the normalisation into the weights with SAELens and save again."
    expect(path, settings, "normalize_activations", ("none",), fold)
    expect(path, settings, "reshape_activations", ("none",), "MLPs are expected, not attention heads.")
    expect(path, settings, "apply_b_dec_to_input", (False,), "A transcoder's input is taken as it is.")
    shape = _architecture(part)
    tensors = read_tensors(part / WEIGHTS, REQUIRED | shape.optional, {}, place)
    d, F = tensors["W_enc"].shape
    for key, wanted in (("d_in", d), ("d_sae", F), ("d_out", d)):
        expect(path, settings, key, (wanted,), f"The weights have that size: mend {SETTINGS}.")
    if "threshold" in tensors:
        tensors["threshold"] = tensors["threshold"].clamp(min=0)  # its ReLU comes first
    return from_tensors(tensors | {"W_enc": tensors["W_enc"].T.contiguous()}, shape.kind)


LAYOUT = DiskLayout(
    "saelens",
    "layer_0/sae_weights.safetensors with cfg.json …",
    frozenset({"relu", "jumprelu"}),
    partial(one_folder_down, weights=WEIGHTS),
    read,
    write,
    frozenset({"relu", "jumprelu"}),
)
