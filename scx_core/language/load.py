"""Load a causal language model from a folder or a hub id: safetensors only, no remote code."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from scx_core.errors import ScxError
from scx_core.language.exact import compute_in_float64
from scx_core.language.facts import Architecture, architecture
from scx_core.language.products import speed_up
from scx_core.runs.config import from_dict
from scx_core.runs.files import read_json, sha256_of
from scx_core.sentences import Prompt, SentenceConfig, make_prompt

EMBEDDED = Path(__file__).resolve().parents[2] / "models" / "embedded"
SETTINGS_FILE = "scx.json"
# Above this many parameters a CUDA model is held in bfloat16; below, float32 costs little and is exact.
FLOAT32_LIMIT = 1_500_000_000


@dataclass(frozen=True)
class Language:
    """A model with its tokenizer and facts. `settings` is what `scx.json` beside the weights says
    (labels, sentence config, split, metrics), empty for a model from elsewhere."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    facts: Architecture
    source: str
    fingerprint: str
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Short name for people."""
        return self.settings.get("name") or Path(self.source).name

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.model.device

    @property
    def dtype(self) -> torch.dtype:
        """The precision of the weights."""
        return self.model.dtype

    @property
    def pad_id(self) -> int:
        """Padding token: the tokenizer's own, or its end-of-text."""
        pad = self.tokenizer.pad_token_id
        return pad if pad is not None else self.eos_id

    @property
    def eos_id(self) -> int:
        """End-of-text token. Position 0 carries real prompt text: no BOS is ever added."""
        return self.tokenizer.eos_token_id if self.tokenizer.eos_token_id is not None else 0

    @property
    def labels(self) -> list[str]:
        """The cell types that the model was trained to answer with, when its settings say."""
        return list(self.settings.get("labels", []))

    @property
    def sentence_config(self) -> SentenceConfig:
        """How this model wants cells written (the settings', else 200 genes and the first C2S prompt)."""
        saved = self.settings.get("sentences")
        return from_dict(SentenceConfig, saved) if saved else SentenceConfig(n_genes=200)

    @property
    def prompt(self) -> Prompt:
        """The prompt template in force, with the lead before the answer when it is known."""
        return make_prompt(self.sentence_config.prompt, self.settings.get("lead"))

    def text(self, token: int) -> str:
        """One token as text."""
        return str(self.tokenizer.decode([token]))

    def block(self, layer: int) -> torch.nn.Module:
        """Transformer block `layer`."""
        return self.model.get_submodule(self.facts.family.blocks)[layer]  # type: ignore[index]

    def part(self, layer: int, name: str) -> torch.nn.Module:
        """A part of a block by its name in the facts table: attn, mlp, attn_norm, mlp_norm, values, …"""
        return self.block(layer).get_submodule(getattr(self.facts.family, name))

    @property
    def final_norm(self) -> torch.nn.Module:
        """The norm before the unembedding."""
        return self.model.get_submodule(self.facts.family.final_norm)

    @property
    def unembedding(self) -> torch.Tensor:
        """W_U [vocab, d]."""
        return self.model.get_output_embeddings().weight


def pick_device(wish: str = "auto") -> torch.device:
    """CUDA when there is one, else CPU. Raises ScxError for a device that this machine lacks."""
    if wish == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(wish)
    except RuntimeError as error:
        raise ScxError(f"{wish!r} is not a device.", "Use auto, cpu, cuda or cuda:N.") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ScxError("No CUDA GPU is visible here.", "Use --device cpu, or check the driver.")
    return device


def _check_folder(folder: Path) -> None:
    if not (folder / "config.json").is_file():
        raise ScxError(
            f"The model folder {folder} has no config.json.", "Point to a Hugging Face model folder."
        )
    if not any(folder.glob("*.safetensors")):
        raise ScxError(
            f"The model folder {folder} holds no .safetensors weights.",
            "Only safetensors are loaded; save the model again with save_pretrained().",
        )
    if not (folder / "tokenizer.json").is_file():
        raise ScxError(f"The model folder {folder} has no tokenizer.json.", "Add the model's fast tokenizer.")


def model_fingerprint(folder: Path) -> str:
    """sha256 over what decides the answers: weights, config, tokenizer. A changed card changes nothing."""
    files = sorted([*folder.glob("*.safetensors"), folder / "config.json", folder / "tokenizer.json"])
    return hashlib.sha256("".join(sha256_of(file) for file in files).encode()).hexdigest()


def _pick_dtype(wish: str, config: Any, device: torch.device) -> torch.dtype:
    if wish != "auto":
        known = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float64": torch.float64}
        if wish not in known:
            raise ScxError(f"{wish!r} is not a precision that works here.", f"Use auto, {', '.join(known)}.")
        return known[wish]
    parameters = (
        12 * config.num_hidden_layers * config.hidden_size**2 + 2 * config.vocab_size * config.hidden_size
    )
    big = device.type == "cuda" and parameters > FLOAT32_LIMIT
    return torch.bfloat16 if big else torch.float32


def _read_model(
    name: str, device: torch.device, dtype: str, local: bool
) -> tuple[Any, Architecture, PreTrainedTokenizerBase, Any]:
    """Config, facts, tokenizer and model from a folder or the hub; nothing in it is drawn at random."""
    options = {"trust_remote_code": False, "local_files_only": local}
    try:
        config = AutoConfig.from_pretrained(name, **options)
        facts = architecture(config)
        tokenizer = AutoTokenizer.from_pretrained(name, **options)
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            name,
            config=config,
            use_safetensors=True,
            dtype=_pick_dtype(dtype, config, device),
            attn_implementation="eager",
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # reported below, where transformers would only print a table
            **options,
        )
    except ScxError:
        raise
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ScxError(
            f"The model {name!r} could not be loaded: {first}", "Check the folder or hub id."
        ) from error
    model, report = loaded
    odd = sorted({*report["missing_keys"], *(key for key, *_ in report["mismatched_keys"])})
    if odd:
        more = f" and {len(odd) - 3} more" if len(odd) > 3 else ""
        raise ScxError(
            f"The model {name!r} could not be loaded: {', '.join(odd[:3])}{more} are missing from its "
            "weights or have another shape than its config says.",
            "Copy the folder again, or save the model with save_pretrained().",
        )
    return config, facts, tokenizer, model


def load_language(source: str | Path = "embedded", device: str = "auto", dtype: str = "auto") -> Language:
    """Load a model by folder, hub id, or "embedded".

    Attention is eager, because the tracer reads the attention patterns. Raises ScxError when the folder
    lacks a file or a weight, the family is unknown, or the hub cannot be reached.
    """
    where = EMBEDDED if str(source) == "embedded" else Path(source)
    local = where.is_dir()
    if local:
        _check_folder(where)
    elif where.exists() or str(source).startswith((".", "/")) or str(source) == "embedded":
        raise ScxError(f"There is no model folder {where}.", "Check the path, or give a Hugging Face hub id.")
    name = str(where) if local else str(source)
    place = pick_device(device)
    config, facts, tokenizer, model = _read_model(name, place, dtype, local)
    settings = where / SETTINGS_FILE
    lm = Language(
        model.to(place).eval().requires_grad_(False),
        tokenizer,
        facts,
        name,
        model_fingerprint(where) if local else f"hub:{getattr(config, '_commit_hash', None)}",
        read_json(settings) if local and settings.is_file() else {},
    )
    compute_in_float64(lm)
    speed_up(lm.model)
    return lm
