"""circuit-tracer's per-layer set, and our own: one plain folder.

config.yaml            model_kind, hooks, the gate, and where the layers lie
layer_{i}.safetensors  W_enc, W_dec [F, d], b_enc [F], b_dec [d]; W_skip [d, d] and
                       activation_function.threshold [F] where there are any
circuit-tracer itself knows ReLU and JumpReLU (which it builds where there are thresholds). A TopK set of our
own has its k in config.yaml and scx.json; `export_set` gives it thresholds before it leaves the house. SAEs
lie here too, with the MLP's output as feature_input_hook; they do not leave the house in this layout.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, cast, get_args

import yaml

from scx_core.errors import ScxError
from scx_core.runs import write_atomic
from scx_core.transcoders.layouts.parts import (
    AGAIN,
    DiskLayout,
    LoadedSet,
    Placement,
    expect,
    in_order,
    read_tensors,
    whole_number,
    write_tensors,
)
from scx_core.transcoders.module import Kind, Reads, Transcoder, from_tensors

THRESHOLD = "activation_function.threshold"
REQUIRED = {"W_enc": "Fd", "W_dec": "Fd", "b_enc": "F", "b_dec": "d"}
OPTIONAL = {"W_skip": "dd", THRESHOLD: "F"}
CONFIG = "config.yaml"
INPUT_HOOK, OUTPUT_HOOKS = "mlp.hook_in", ("hook_mlp_out", "mlp.hook_out")


def recognises(folder: Path) -> bool:
    """By config.yaml or a layer's file."""
    return (folder / CONFIG).exists() or any(folder.glob("layer_*.safetensors"))


def read(folder: Path, record: Mapping[str, Any], place: Placement) -> LoadedSet:
    """The set; what our record says about the gate goes before config.yaml."""
    config = _read_config(folder)
    settings = {"kind": config.get("activation"), "k": config.get("k")} | dict(record)
    files = _layer_files(folder, config)
    layers = tuple(_read_layer(file, settings, place) for file in files)
    counted = [folder / CONFIG] if (folder / CONFIG).exists() else []
    meta = {"model_name": str(config["model_name"])[:200]} if config.get("model_name") else {}
    reads: Reads = "output" if config.get("feature_input_hook") in OUTPUT_HOOKS else "input"
    return LoadedSet(layers, meta, (*counted, *files), reads)


def write(folder: Path, layers: tuple[Transcoder, ...], record: Mapping[str, Any]) -> tuple[Path, ...]:
    """Write the set and take away what a bigger one left."""
    names = [f"layer_{layer}.safetensors" for layer in range(len(layers))]
    for name, coder in zip(names, layers, strict=True):
        plain = coder.tensors()
        write_tensors(folder / name, {THRESHOLD if key == "threshold" else key: plain[key] for key in plain})
    for stale in set(folder.glob("layer_*.safetensors")) - {folder / name for name in names}:
        stale.unlink()
    first = layers[0]
    config: dict[str, Any] = {
        "model_kind": "transcoder_set",
        "model_name": str(record.get("model_name", "")),
        "feature_input_hook": OUTPUT_HOOKS[0] if record.get("reads") == "output" else INPUT_HOOK,
        "feature_output_hook": OUTPUT_HOOKS[0],
        "scan": str(record["name"]),
        "transcoders": names,
    }
    if first.kind != "jumprelu":
        config["activation"] = first.kind
    if first.kind == "topk":
        config["k"] = first.k
    write_atomic(folder / CONFIG, yaml.safe_dump(config, sort_keys=False))
    return (folder / CONFIG, *(folder / name for name in names))


class _PlainValues(yaml.SafeLoader):
    """Values that stand for themselves. With references a few lines can say a text of any length."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Refuse a reference to what stands elsewhere."""
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("it has references (*) to other places")
        return super().compose_node(parent, index)


def _read_config(folder: Path) -> dict[str, Any]:
    """config.yaml, checked; nothing when there is no such file."""
    path = folder / CONFIG
    if not path.exists():
        return {}
    try:
        config = yaml.load(path.read_text(encoding="utf-8"), Loader=_PlainValues)  # noqa: S506 (a safe one)
    # A date that there is not, or a number of thousands of digits, is a plain ValueError.
    except (yaml.YAMLError, OSError, ValueError, RecursionError) as error:
        problem = f"{path} is not valid YAML of plain values ({str(error)[:120]})."
        raise ScxError(problem, AGAIN) from error
    if not isinstance(config, dict) or config.get("model_kind", "transcoder_set") != "transcoder_set":
        raise ScxError(
            f"{path} does not describe a per-layer transcoder set.", "model_kind must be transcoder_set."
        )
    remedy = "Only what reads an MLP's input (an SAE: its output) and gives its output can stand in for it."
    expect(path, config, "feature_input_hook", (INPUT_HOOK, *OUTPUT_HOOKS), remedy)
    expect(path, config, "feature_output_hook", OUTPUT_HOOKS, remedy)
    return config


def _layer_files(folder: Path, config: Mapping[str, Any]) -> list[Path]:
    """The layers' files in order: as config.yaml lists them, else by their numbers."""
    listed = config.get("transcoders")
    if listed is not None:
        return [_inside(folder, name) for name in _names(folder, listed)]
    numbers = [(file.stem.removeprefix("layer_"), file) for file in folder.glob("layer_*.safetensors")]
    found = [(int(number), file) for number, file in numbers if re.fullmatch("[0-9]{1,6}", number)]
    return in_order(folder, found, "layer_{layer}.safetensors")


def _names(folder: Path, listed: Any) -> list[str]:
    if not isinstance(listed, list) or not listed or not all(isinstance(name, str) for name in listed):
        raise ScxError(f"{folder / CONFIG}: transcoders is not a list of files.", AGAIN)
    return listed


def _inside(folder: Path, name: str) -> Path:
    """A listed file. What is on the hub, or anywhere else than in the folder, is not fetched or opened."""
    path = PurePosixPath(name)
    if "://" in name or path.is_absolute() or ".." in path.parts or path.suffix != ".safetensors":
        raise ScxError(
            f"{folder / CONFIG} lists {name[:120]!r}, expected a .safetensors file in the folder.",
            "Download the layers into the folder and list them by their names there.",
        )
    if not os.path.exists(folder / path):  # noqa: PTH110 (of a name that is too long it says no)
        problem = f"{folder} lacks {name[-120:]}, which {CONFIG} lists."
        raise ScxError(problem, "Copy it, or save the set again.")
    return folder / path


def _read_layer(path: Path, settings: Mapping[str, Any], place: Placement) -> Transcoder:
    tensors = read_tensors(path, REQUIRED, OPTIONAL, place)
    built = "jumprelu" if THRESHOLD in tensors else "relu"
    kind = settings.get("kind") or built
    if kind not in get_args(Kind):
        known = ", ".join(get_args(Kind))
        raise ScxError(f"{path.parent} has transcoders of the kind {str(kind)[:60]!r}.", f"Known: {known}.")
    if "jumprelu" in (kind, built) and kind != built:
        has = "has thresholds" if built == "jumprelu" else "has none"
        raise ScxError(f"{path} {has}, but the set is said to be {kind}.", AGAIN)
    k = whole_number(path.parent / CONFIG, settings, "k") if kind == "topk" else None
    plain = {"threshold" if name == THRESHOLD else name: tensor for name, tensor in tensors.items()}
    return from_tensors(plain, cast(Kind, kind), k)


LAYOUT = DiskLayout(
    "circuit-tracer",
    "config.yaml, layer_0.safetensors …",
    frozenset({"relu", "jumprelu"}),
    recognises,
    read,
    write,
)
