"""A transcoder set on disk: circuit-tracer's per-layer layout, with our own metadata in scx.json beside it.

config.yaml            what circuit-tracer reads (model_kind, hooks, activation)
layer_{i}.safetensors  W_enc, W_dec [F, d], b_enc [F], b_dec [d]; W_skip [d, d] and
                       activation_function.threshold [F] where there are any
scx.json               kind, k, configuration, provenance, metrics
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast, get_args

import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from scx_core.errors import ScxError
from scx_core.runs import read_json, sha256_of, write_atomic, write_json
from scx_core.runs.files import replace_atomic
from scx_core.transcoders.module import Kind, Transcoder, TranscoderSet, from_tensors

MODELS = Path(__file__).resolve().parents[2] / "models"
EMBEDDED_SETS = {
    "embedded": MODELS / "embedded-transcoders",
    "embedded-paper": MODELS / "embedded-transcoders-paper",
}
THRESHOLD = "activation_function.threshold"
REQUIRED = ("W_enc", "W_dec", "b_enc", "b_dec")
OPTIONAL = ("W_skip", THRESHOLD)
KINDS = get_args(Kind)


def save_set(
    folder: Path | str, transcoders: TranscoderSet, meta: Mapping[str, Any] | None = None
) -> TranscoderSet:
    """Write a set and return it as saved. `meta` is added to the set's own; float32 on disk, no timestamps.

    scx.json comes last: a folder without it that has ours beside is not whole. Raises ScxError when the
    disk is full.
    """
    folder, first, n_layers = Path(folder), transcoders.layers[0], len(transcoders.layers)
    facts = {
        "kind": first.kind,
        "k": first.k,
        "n_layers": n_layers,
        "n_features": first.n_features,
        "width": first.width,
    }
    record = {**transcoders.meta, **(meta or {}), **facts}
    record.setdefault("name", folder.name)
    (folder / "scx.json").unlink(missing_ok=True)
    for layer, coder in enumerate(transcoders.layers):
        _save_layer(_layer_file(folder, layer), coder)
    for stale in set(folder.glob("layer_*.safetensors")) - {_layer_file(folder, i) for i in range(n_layers)}:
        stale.unlink()
    write_atomic(folder / "config.yaml", _config_yaml(record))
    write_json(folder / "scx.json", record)
    return TranscoderSet(transcoders.layers, record, _fingerprint(folder, n_layers), folder)


def load_set(
    source: Path | str = "embedded", device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> TranscoderSet:
    """The set in a folder, or "embedded" / "embedded-paper". Also reads sets of circuit-tracer (no scx.json).

    Raises ScxError naming the file when a layer is missing, broken, or holds what is not known here.
    """
    folder = EMBEDDED_SETS.get(str(source), Path(source))
    if not folder.is_dir():
        raise ScxError(f"There is no transcoder folder {folder}.", "Check the path, or train a set first.")
    meta = read_json(folder / "scx.json") if (folder / "scx.json").exists() else {}
    settings = _read_config(folder) | (meta if isinstance(meta, dict) else {})
    n_layers = _count_layers(folder, settings)
    layers = tuple(_load_layer(_layer_file(folder, i), settings, device, dtype) for i in range(n_layers))
    return TranscoderSet(layers, dict(meta), _fingerprint(folder, n_layers), folder)


def _layer_file(folder: Path, layer: int) -> Path:
    return folder / f"layer_{layer}.safetensors"


def _save_layer(path: Path, coder: Transcoder) -> None:
    tensors = {
        THRESHOLD if name == "threshold" else name: tensor.detach().float().cpu().contiguous()
        for name, tensor in coder.tensors().items()
    }
    replace_atomic(path, lambda temporary: save_file(tensors, temporary))


def _config_yaml(record: Mapping[str, Any]) -> str:
    """What circuit-tracer wants to know. It builds a JumpReLU by itself where a layer has thresholds."""
    config: dict[str, Any] = {
        "model_kind": "transcoder_set",
        "model_name": str(record.get("model_name", "")),
        "feature_input_hook": "mlp.hook_in",
        "feature_output_hook": "hook_mlp_out",
        "scan": str(record["name"]),
        "transcoders": [f"layer_{layer}.safetensors" for layer in range(record["n_layers"])],
    }
    if record["kind"] != "jumprelu":
        config["activation"] = record["kind"]
    if record["kind"] == "topk":
        config["k"] = record["k"]
    return yaml.safe_dump(config, sort_keys=False)


def _read_config(folder: Path) -> dict[str, Any]:
    """kind and k as circuit-tracer's config.yaml states them; nothing when there is no such file."""
    path = folder / "config.yaml"
    if not path.exists():
        return {}
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ScxError(f"{path} is not valid YAML.", "Restore it, or save the set again.") from error
    if not isinstance(config, dict) or config.get("model_kind", "transcoder_set") != "transcoder_set":
        raise ScxError(
            f"{path} does not describe a per-layer transcoder set.", "model_kind must be transcoder_set."
        )
    return {"kind": config.get("activation"), "k": config.get("k")}


def _count_layers(folder: Path, settings: Mapping[str, Any]) -> int:
    numbers = sorted(
        int(file.stem.removeprefix("layer_"))
        for file in folder.glob("layer_*.safetensors")
        if file.stem.removeprefix("layer_").isdigit()
    )
    expected = settings.get("n_layers", len(numbers))
    if not numbers:
        raise ScxError(
            f"{folder} holds no layer_0.safetensors.", "Point to a folder with one file per layer."
        )
    if numbers != list(range(expected)):
        missing = sorted(set(range(max(expected, numbers[-1] + 1))) - set(numbers))
        raise ScxError(
            f"{folder} should hold layers 0 to {max(expected, numbers[-1] + 1) - 1}, "
            f"missing: {', '.join(f'layer_{i}.safetensors' for i in missing) or 'none'}.",
            "Copy the missing files, or save the set again.",
        )
    return len(numbers)


def _load_layer(path: Path, settings: Mapping[str, Any], device: Any, dtype: torch.dtype) -> Transcoder:
    try:
        tensors = load_file(path, device=str(device))
    except (SafetensorError, OSError) as error:
        raise ScxError(
            f"{path} could not be read ({error}).", "Restore the file, or save the set again."
        ) from error
    unknown = sorted(set(tensors) - set(REQUIRED) - set(OPTIONAL))
    missing = sorted(set(REQUIRED) - set(tensors))
    if unknown or missing:
        raise ScxError(
            f"{path} lacks {', '.join(missing) or 'nothing'}; unknown: {', '.join(unknown) or 'nothing'}.",
            f"A layer holds {', '.join(REQUIRED)} and may hold {', '.join(OPTIONAL)}.",
        )
    kind = settings.get("kind") or ("jumprelu" if THRESHOLD in tensors else "relu")
    if kind not in KINDS:
        raise ScxError(f"{path.parent} has transcoders of the kind {kind!r}.", f"Known: {', '.join(KINDS)}.")
    plain = {name.rpartition(".")[2]: tensor.to(dtype) for name, tensor in tensors.items()}
    return from_tensors(plain, cast(Kind, kind), settings.get("k") if kind == "topk" else None)


def _fingerprint(folder: Path, n_layers: int) -> str:
    """sha256 over config.yaml and the layers: what the set computes, whatever else lies in the folder."""
    files = [folder / "config.yaml"] if (folder / "config.yaml").exists() else []
    files += [_layer_file(folder, layer) for layer in range(n_layers)]
    return hashlib.sha256("".join(sha256_of(file) for file in files).encode()).hexdigest()
