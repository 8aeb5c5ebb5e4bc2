"""What each released Cell2Sentence checkpoint reads and writes: one table, with the evidence for each entry.

A checkpoint's files do not say which prompt it was trained on, how many genes, whether a token of beginning
belongs in front, or what ends its answers. Read with another text it answers all the same, and a circuit of
that answer explains nothing. So a checkpoint is recognised by its hub id, or in a local folder by its
name (also as the hub's cache lays it out) together with its config, and read as it was trained.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from scx_core.errors import ScxError

if TYPE_CHECKING:
    from scx_core.language.loading import Language

OWNER = "vandijklab"
LABELS, CELLS = "labels", "cells"
VOCABULARY = "CELLxGENE / Cell Ontology names, such as “CD4-positive, alpha-beta T cell”"
SEEN = "public CELLxGENE and Human Cell Atlas data: it has probably seen most public atlases"


class Contract(NamedTuple):
    """How a checkpoint wants to be read. `config`: what its config.json says, to tell a checkpoint from a
    folder that only bears its name. `prompt`: name of a template. `n_genes`: asked for by default; `fewest`,
    `most`: the range it was trained on. `bos`: whether the tokenizer's own token of beginning stands in
    front. `ends`: what may stand behind a label, likeliest first; the model is asked. `writes`: LABELS, or
    CELLS for one that cannot name a cell type. `licence`: of the weights, "" where it could not be verified.
    """

    checkpoint: str
    config: dict[str, Any]
    prompt: str
    n_genes: int
    fewest: int
    most: int
    context: int
    bos: bool
    ends: tuple[str, ...]
    writes: str
    licence: str
    evidence: str
    vocabulary: str = VOCABULARY
    seen: str = SEEN

    @property
    def hub_id(self) -> str:
        """The id on the Hugging Face hub."""
        return f"{OWNER}/{self.checkpoint}"


_NEOX_410M = {"model_type": "gpt_neox", "num_hidden_layers": 24, "hidden_size": 1024}
_NEOX_1B = {"model_type": "gpt_neox", "num_hidden_layers": 16, "hidden_size": 2048}
_GEMMA_2B = {"model_type": "gemma2", "num_hidden_layers": 26, "hidden_size": 2304}
_GEMMA_27B = {"model_type": "gemma2", "num_hidden_layers": 46, "hidden_size": 4608}
_CARD = "model card and tutorial of the cell2sentence package 1.2.0"
_STOP, _CONTROL = ".", "<ctrl100>"

CONTRACTS = (
    Contract(
        "C2S-Pythia-410m-cell-type-prediction", _NEOX_410M, "c2s-1", 200, 100, 200, 2048, False, (_STOP,),
        LABELS, "CC0 1.0", f"{_CARD}: 200 genes, first template, no token of beginning (GPT-NeoX-20B).",
    ),
    Contract(
        "C2S-Pythia-410m-diverse-single-and-multi-cell-tasks", _NEOX_410M, "c2s-1", 200, 100, 2048, 8192,
        False, (_STOP,), LABELS, "", f"{_CARD}: 100 to 2,048 genes.",
    ),
    Contract(
        "C2S-Pythia-410m-cell-type-conditioned-cell-generation", _NEOX_410M, "c2s-1", 200, 100, 200, 2048,
        False, (_STOP,), CELLS, "CC BY-NC-ND (stored card)", f"{_CARD}: it writes cells for a label.",
    ),
    Contract(
        "C2S-Scale-Pythia-1b-pt", _NEOX_1B, "c2s-1", 200, 100, 2048, 8192, False, (_STOP,), LABELS,
        "CC BY 4.0", f"{_CARD}: 100 to 2,048 genes.",
    ),
    Contract(
        "C2S-Scale-Gemma-2-2B", _GEMMA_2B, "c2s-1", 1000,
        200, 2048, 8192, True, (_CONTROL, _STOP + _CONTROL, _STOP), LABELS, "CC BY 4.0",
        "model card: example of 1,000 genes, at least 200 advised, tokenizer called plainly, which adds "
        "Gemma's <bos>; two independent scripts cut answers at <ctrl100>; whether a full stop stands before "
        "it is asked.",
    ),
    Contract(
        "C2S-Scale-Gemma-2-27B", _GEMMA_27B, "c2s-1", 1000,
        200, 2048, 8192, True, (_CONTROL, _STOP + _CONTROL, _STOP), LABELS, "CC BY 4.0",
        "as the 2B checkpoint.",
    ),
    Contract(
        "pythia-160m-c2s", {"model_type": "gpt_neox", "num_hidden_layers": 12, "hidden_size": 768}, "c2s-1",
        200, 100, 2048, 2048, False, (_STOP,), LABELS, "CC BY-NC-ND",
        "first generation, trained on older prompts that no package carries: the nearest template is used, "
        "and its answers are worth a look.",
    ),
)  # fmt: skip
_LIKE_C2S = re.compile(r"(?<![a-z])c2s(?![a-z])|cell2sentence", re.IGNORECASE)


def contract_of(source: str | Path, config: Any) -> Contract | None:
    """The contract of a checkpoint, None for a model that is no Cell2Sentence checkpoint.

    `source` is a hub id or a folder, `config` the loaded config (also its `_name_or_path` is looked at). A
    name of Cell2Sentence that the table does not hold gets the contract whose config fits, with its own name.
    Raises ScxError for a checkpoint that writes cells and not labels.
    """
    names = list(_names(source, config))
    found = next((one for name in names for one in CONTRACTS if _named(one, name, config)), None)
    if found is None and any(_LIKE_C2S.search(name) for name in names):
        alike = [one for one in CONTRACTS if one.writes == LABELS and _fits(one, config)]
        kind = [one for one in CONTRACTS if one.config["model_type"] == config.model_type]
        told = "not in the table of checkpoints: read as one of its kind, by its name"
        name = next(name for name in names if _LIKE_C2S.search(name))
        nearest = (alike or kind or list(CONTRACTS))[0]
        found = nearest._replace(checkpoint=name, config={}, licence="", evidence=told)
    elif found is not None and not _fits(found, config):
        told = "known by its name alone: the model is of another size than the released checkpoint"
        found = found._replace(licence="", seen="not known", evidence=f"{told}. {found.evidence}")
    if found is not None and (found.writes == CELLS or "cell-generation" in found.checkpoint.lower()):
        raise ScxError(
            f"{found.checkpoint} writes cells for a cell type and names none: it has no answers to explain.",
            "Choose a checkpoint for cell type prediction, such as C2S-Pythia-410m-cell-type-prediction.",
        )
    return found


def _named(contract: Contract, name: str, config: Any) -> bool:
    """Whether a name is that of the checkpoint, and the model of its family."""
    return name == contract.checkpoint.lower() and config.model_type == contract.config["model_type"]


def _names(source: str | Path, config: Any) -> Iterable[str]:
    """What the checkpoint may be called: the last part of its id or path, the hub cache's folder above it."""
    for text in (str(source), str(getattr(config, "_name_or_path", "") or "")):
        for part in reversed(Path(text).parts):
            name = part.rsplit("--", 1)[-1].lower() if part.startswith("models--") else part.lower()
            if name in {one.checkpoint.lower() for one in CONTRACTS} or _LIKE_C2S.search(name):
                yield name
        if text:
            yield Path(text).name.lower()


def _fits(contract: Contract, config: Any) -> bool:
    return all(getattr(config, key, None) == value for key, value in contract.config.items())


class Term(NamedTuple):
    """One term: what it is about, and what holds, both for people."""

    what: str
    value: str


def terms_of(lm: Language) -> tuple[Term, ...]:
    """What the model reads and writes, one line each."""
    contract, sentences, prompt = lm.contract, lm.sentence_config, lm.prompt
    spread = "" if contract is None else f" (trained on {contract.fewest:,} to {contract.most:,})"
    bos = "none: position 0 is text of the prompt"
    if lm.bos_id is not None:
        bos = f"{lm.text(lm.bos_id)}, as the tokenizer adds it; position 0 is no text"
    states = f"one of the {len(lm.labels)} answers that it states" if lm.labels else "it states no answers"
    found = [
        Term("checkpoint", lm.name if contract is None else contract.hub_id if contract.config else lm.name),
        Term("prompt", f"{prompt.name}{' (chosen by you)' if _other_prompt(lm) else ''}"),
        Term("genes asked for", f"{sentences.n_genes:,}{spread}"),
        Term("token of beginning", bos),
        Term("ends of an answer", " or ".join(f"“{end}”" for end in lm.answer_ends)),
        Term("answers", states if contract is None else contract.vocabulary),
        Term("context", f"{lm.facts.context:,} tokens"),
    ]
    if contract is not None:
        found += [
            Term("licence of the weights", contract.licence or "not verified: see its model card"),
            Term("has probably seen", contract.seen),
            Term("evidence", contract.evidence),
        ]
    return tuple(found)


def text_warnings(lm: Language) -> tuple[str, ...]:
    """Where the text differs from what the checkpoint was trained on, a sentence each."""
    contract, asked = lm.contract, lm.sentence_config.n_genes
    found = []
    if contract is not None and not contract.fewest <= asked <= contract.most:
        found.append(
            f"{asked:,} genes are asked for; {contract.checkpoint} was trained on {contract.fewest:,} to "
            f"{contract.most:,}."
        )
    if contract is not None and _other_prompt(lm):
        found.append(
            f"The prompt {lm.prompt.name!r} is not one of those that {contract.checkpoint} was trained on."
        )
    if contract is not None and not contract.config:
        found.append(f"{lm.name} is not in the table of checkpoints; it is read as one of its kind.")
    return tuple(found)


def _other_prompt(lm: Language) -> bool:
    """Whether a person asked for another kind of prompt than the checkpoint's."""
    wanted = lm.sentence_config.prompt
    if lm.contract is not None:
        return not wanted.startswith("c2s-")
    saved = lm.settings.get("sentences", {}).get("prompt", "scx")
    return wanted != saved
