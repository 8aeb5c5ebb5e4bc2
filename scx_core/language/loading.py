"""Load a causal language model from a folder or a hub id: safetensors only, no remote code."""

from __future__ import annotations

import hashlib
import threading
from dataclasses import dataclass, field, replace
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
from scx_core.language import hub
from scx_core.language.architectures import Architecture, architecture
from scx_core.language.contracts import Contract, contract_of
from scx_core.language.numerics.float64 import compute_in_float64
from scx_core.language.numerics.held_in_bfloat16 import compute_in_float32, wide
from scx_core.language.numerics.onednn import asked_for, speed_up
from scx_core.places import models_folder
from scx_core.runs.files import (
    check_links,
    check_object,
    is_folder,
    is_there,
    read_json,
    sha256_of,
)
from scx_core.runs.options import from_dict
from scx_core.runs.progress import Progress, silent
from scx_core.sentences import Prompt, SentenceConfig, make_prompt

EMBEDDED = models_folder() / "embedded"
# Models that ship with the software, by the word that stands for them.
SHIPPED = {"embedded": EMBEDDED, "planted": EMBEDDED.parent / "planted"}
SETTINGS_FILE = "scx.json"
# What is asked of that file; whatever else is in it is for people.
_STATED = {"name": (str, type(None)), "fingerprint": (str, type(None))}
SETTINGS_KINDS: dict[str, Any] = {
    "name": (str, type(None)),
    "labels": [str],
    "lead": (str, type(None)),
    "answer_end": (str, type(None)),
    "sentences": {"prompt": str, "n_genes": int, "tie_seed": int},
    "data": _STATED,
    "split": {"train": [int], "choose": [int], "held_out": [int]},
    "provenance": {"data": _STATED, "model": _STATED},
}
# A fast tokenizer, or what one is made from (SentencePiece); the first that is there counts.
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model")
# A tokenizer with fewer tokens than this share of the embedding's rows is not the model's own.
VOCABULARY = 0.9
SMALL = 100_000_000  # bytes of weights
# Up to this many parameters a model on a card is held in float32, and beyond them while it takes no more
# than this share of the card's memory; else in bfloat16.
FLOAT32_LIMIT, FLOAT32_SHARE = 1_500_000_000, 0.25


@dataclass(frozen=True)
class Language:
    """A model with its tokenizer and facts. `settings` is what `scx.json` beside the weights says
    (labels, sentence config, split, metrics), empty for a model from elsewhere. `contract` is what is known
    of a released checkpoint; `wanted` is the text that a person asked for instead; `asked` keeps what
    the checkpoint itself was asked: lead and end of its answers, by prompt. `lock` is to
    be held where threads share the model: hooks of one forward pass read the activations of any other."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    facts: Architecture
    source: str
    fingerprint: str
    settings: dict[str, Any] = field(default_factory=dict)
    contract: Contract | None = None
    wanted: SentenceConfig | None = None
    asked: dict[str, tuple[str, str]] = field(default_factory=dict, compare=False)
    lock: Any = field(default_factory=threading.RLock, compare=False, repr=False)

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
        """The precision of all sums. Weights may be held in bfloat16, and are float32 while they are used."""
        return torch.float32 if self.model.dtype == torch.bfloat16 else self.model.dtype

    @property
    def pad_id(self) -> int:
        """Padding token: the tokenizer's own, or its end-of-text."""
        pad = self.tokenizer.pad_token_id
        return pad if pad is not None else self.eos_id

    @property
    def eos_id(self) -> int:
        """End-of-text token."""
        return self.tokenizer.eos_token_id if self.tokenizer.eos_token_id is not None else 0

    @property
    def bos_id(self) -> int | None:
        """The token of beginning that stands in front of every prompt, None where there is none.

        A checkpoint's contract decides; without one, whether the tokenizer itself adds it. Where there is
        none (Pythia), position 0 carries real prompt text.
        """
        bos = self.tokenizer.bos_token_id
        if self.contract is not None:
            return bos if self.contract.bos else None
        if bos is None or self.settings:
            return None
        ids = self.tokenizer("A")["input_ids"]
        return bos if len(ids) > 1 and ids[0] == bos else None

    @property
    def labels(self) -> list[str]:
        """The cell types that the model was trained to answer with, when its settings say."""
        return list(self.settings.get("labels", []))

    @property
    def sentence_config(self) -> SentenceConfig:
        """How cells are written for this model: as a person asked, else as its settings or its contract say,
        else 200 genes and our own prompt."""
        if self.wanted is not None:
            return self.wanted
        if saved := self.settings.get("sentences"):
            return from_dict(SentenceConfig, saved)
        if self.contract is not None:
            return SentenceConfig(n_genes=self.contract.n_genes, prompt=self.contract.prompt)
        return SentenceConfig(n_genes=200)

    @property
    def prompt(self) -> Prompt:
        """The prompt template in force, with the token of beginning, and with lead and end where known.

        Raises ScxError when it is a template of a package that is not installed.
        """
        return self.prompt_for(self.sentence_config)

    def prompt_for(self, sentences: SentenceConfig) -> Prompt:
        """The prompt of another sentence configuration, for this model."""
        asked_lead, asked_end = self.asked.get(sentences.prompt, (None, None))
        lead = self.settings.get("lead")
        found = make_prompt(sentences.prompt, asked_lead if lead is None else lead)
        end = self.settings.get("answer_end") or asked_end or found.end
        return found._replace(bos=self.bos_id, end=end)

    @property
    def answer_ends(self) -> tuple[str, ...]:
        """What may stand behind a label, as far as the tokenizer has the tokens; one where it is known."""
        if "answer_end" in self.settings or self.contract is None:
            return (self.prompt.end,)
        known = self.tokenizer.get_vocab()
        ends = [end for end in self.contract.ends if end == "." or end.removeprefix(".") in known]
        return tuple(ends) or (".",)

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
    def embedding(self) -> torch.Tensor:
        """W_E [vocab, d]."""
        return wide(self.model.get_input_embeddings().get_parameter("weight"))

    @property
    def unembedding(self) -> torch.Tensor:
        """W_U [vocab, d]."""
        return wide(self.model.get_output_embeddings().weight)


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
        of_run = f"It is the folder of a run: its model is {folder / 'model'}."
        remedy = of_run if (folder / "model").is_dir() else "Point to a Hugging Face model folder."
        raise ScxError(f"The model folder {folder} has no config.json.", remedy)
    check_links(folder)
    if not any(folder.glob("*.safetensors")):
        raise ScxError(
            f"The model folder {folder} holds no .safetensors weights.",
            "Only safetensors are loaded; save the model again with save_pretrained().",
        )
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        raise ScxError(
            f"The model folder {folder} has no {' or '.join(TOKENIZER_FILES)}.",
            "Copy the tokenizer's files of the checkpoint into it.",
        )


def model_fingerprint(folder: Path) -> str:
    """sha256 over what decides the answers: weights, config, tokenizer. A changed card changes nothing."""
    tokenizers = [folder / name for name in TOKENIZER_FILES if (folder / name).is_file()][:1]
    files = sorted([*folder.glob("*.safetensors"), folder / "config.json", *tokenizers])
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
    if device.type != "cuda" or parameters <= FLOAT32_LIMIT:
        return torch.float32
    room = FLOAT32_SHARE * torch.cuda.get_device_properties(device).total_memory
    return torch.float32 if 4 * parameters <= room else torch.bfloat16


def _read_model(
    name: str, device: torch.device, dtype: str
) -> tuple[Architecture, PreTrainedTokenizerBase, Any]:
    """Facts, tokenizer and model from a folder or the hub's cache; nothing is drawn at random."""
    options = {"trust_remote_code": False, "local_files_only": True}
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
    _check_tokenizer(name, tokenizer, model.get_input_embeddings().weight.shape[0])
    return facts, tokenizer, model


def _contract(name: str, settings: Path, local: bool) -> Contract | None:
    """What is known of a released checkpoint; a model with settings of ours needs none."""
    if local and settings.is_file():
        return None
    try:
        config = AutoConfig.from_pretrained(name, trust_remote_code=False, local_files_only=True)
    except (OSError, ValueError, KeyError):
        return None  # told when the model is read
    return contract_of(name, config)


def _check_tokenizer(name: str, tokenizer: PreTrainedTokenizerBase, rows: int) -> None:
    """Raise ScxError where the tokenizer is not the one that the model was trained with: a wrong vocabulary
    gives a circuit all the same."""
    size, probe = len(tokenizer), "CD79A HLA-DRA MT-CO1 C1orf43"
    remedy = "Copy the tokenizer's files of the checkpoint again; reading tokenizer.model needs protobuf."
    if not VOCABULARY * rows <= size <= rows:
        raise ScxError(
            f"The tokenizer of {name!r} has {size:,} tokens, the model's embedding {rows:,} rows: they do "
            "not belong together.",
            remedy,
        )
    ids = tokenizer(probe, add_special_tokens=False)["input_ids"]
    back = str(tokenizer.decode(ids))
    if "".join(back.split()) != "".join(probe.split()):
        raise ScxError(
            f"The tokenizer of {name!r} cannot write genes: {probe!r} comes back as {back[:40]!r}.",
            remedy,
        )


def _hub_fingerprint(hub_id: str) -> str:
    """The commit of a checkpoint in the hub's cache: its folder is named after it."""
    folder = hub.checkpoint_folder(hub_id)
    return f"hub:{folder.name if folder else None}"


def is_small(source: str | Path) -> bool:
    """Whether a model's weights are on this machine and below `SMALL` bytes: read and asked in seconds."""
    where = SHIPPED.get(str(source), Path(source))
    weights = list(where.glob("*.safetensors")) if is_folder(where) else []
    return bool(weights) and sum(file.stat().st_size for file in weights) < SMALL


def load_language(
    source: str | Path = "embedded",
    device: str = "auto",
    dtype: str = "auto",
    prompt: str | None = None,
    n_genes: int | None = None,
    onednn: bool | None = None,
    progress: Progress = silent,
) -> Language:
    """Load a model by folder, hub id, or "embedded" / "planted" (of simulated cells, with known rules).

    `prompt` (a template's name or text) and `n_genes` take the place of what the model or its contract
    says. On a card a model of more than 1.5e9 parameters is held in bfloat16 where its float32 weights
    would take more than a quarter of the memory; it computes in float32 all the same. Attention is eager,
    because the tracer reads the attention patterns. `onednn`: float32 products on a processor by oneDNN
    where it has them (default: as SCX_ONEDNN says). A checkpoint of the hub that is not on this computer
    is fetched, which `progress` is told (megabytes done, in all); one that is here is used as it is.
    Raises ScxError when the folder lacks a file or a weight, the family is unknown, the tokenizer is
    another model's, the prompt of a Cell2Sentence checkpoint is not installed, the checkpoint is gated or
    not on the hub, or the hub cannot be reached.
    """
    where = SHIPPED.get(str(source), Path(source))
    local = is_folder(where)
    if local:
        _check_folder(where)
    elif is_there(where) or str(source).startswith((".", "/")) or str(source) in SHIPPED:
        raise ScxError(f"There is no model folder {where}.", "Check the path, or give a Hugging Face hub id.")
    name = str(where) if local else str(source)
    if not local and not hub.is_id(name):
        problem = f"{name[:120]!r} is no model folder, and no name that a checkpoint of the hub can have."
        raise ScxError(problem, "Check the path, or give a Hugging Face hub id (OWNER/NAME).")
    place = pick_device(device)
    here = local or hub.checkpoint_folder(name) is not None
    if not here:
        hub.fetch(name, files=("config.json",))  # all that the contract is found by
    contract = _contract(name, where / SETTINGS_FILE, local)
    if contract is not None and prompt is None:
        make_prompt(contract.prompt)  # before gigabytes are read
    if not here:
        hub.fetch(name, progress)
    facts, tokenizer, model = _read_model(name, place, dtype)
    settings = where / SETTINGS_FILE
    lm = Language(
        model.to(place).eval().requires_grad_(False),
        tokenizer,
        facts,
        name,
        model_fingerprint(where) if local else _hub_fingerprint(name),
        check_object(read_json(settings), SETTINGS_KINDS, settings) if local and settings.is_file() else {},
        contract,
    )
    if prompt is not None or n_genes is not None:
        asked: dict[str, Any] = {"prompt": prompt, "n_genes": n_genes}
        given = {key: value for key, value in asked.items() if value is not None}
        lm = replace(lm, wanted=replace(lm.sentence_config, **given))
    _ = lm.prompt  # a template that is not installed, or cannot be read, shows here
    compute_in_float64(lm)
    if asked_for() if onednn is None else onednn:
        speed_up(lm.model)
    compute_in_float32(lm.model)
    return lm
