"""The terms on which a model is read, in words: its contract where it is a released checkpoint, else what its
own settings say."""

from __future__ import annotations

from typing import NamedTuple

from scx_core.language.loading import Language


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
