"""Whether a set belongs to a model, and to the text that the model is given: one check for all users."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from scx_core.errors import ScxError
from scx_core.language import Language
from scx_core.runs import from_dict, to_dict
from scx_core.sentences import SentenceConfig
from scx_core.transcoders.module import TranscoderSet

AS_IS = "as_is"  # in a set's `meta`: a person asked to use it on another text than its own


def check_set(lm: Language, transcoders: TranscoderSet) -> None:
    """Raise ScxError when a set is for a model of another shape, or was trained on another text than this
    model is given (number of genes, prompt), unless it was opened `as_is`."""
    theirs, ours = (len(transcoders.layers), transcoders.width), (lm.facts.n_layers, lm.facts.width)
    if theirs != ours:
        raise ScxError(
            f"The transcoder set has {theirs[0]} layers of width {theirs[1]}, the model {lm.name} has "
            f"{ours[0]} of width {ours[1]}.",
            "Choose a set that was trained on this model.",
        )
    told = other_text_words(lm, transcoders)
    if told and AS_IS not in transcoders.meta:
        raise ScxError(
            told,
            "Give the same text (--n-genes, --prompt), or use the set all the same with --as-is.",
        )


def other_text(lm: Language, transcoders: TranscoderSet) -> dict[str, tuple[Any, Any]]:
    """What of the text differs: name, what the set was trained on, what the model is given now. Empty where
    the set does not say. The order of ties is left out: every order is the same text to the method."""
    made = transcoders.meta.get("sentences")
    if not isinstance(made, dict):
        return {}
    was, now = to_dict(from_dict(SentenceConfig, made)), to_dict(lm.sentence_config)
    return {name: (was[name], now[name]) for name in ("n_genes", "prompt") if was[name] != now[name]}


def other_text_words(lm: Language, transcoders: TranscoderSet) -> str:
    """What differs, in one sentence; empty where nothing does."""
    differs = other_text(lm, transcoders)
    told = "; ".join(f"{name} {was} there, {now} here" for name, (was, now) in differs.items())
    if not told:
        return ""
    return f"The set {transcoders.name} was trained on another text than {lm.name} is given here: {told}."


def opened_as_is(lm: Language, transcoders: TranscoderSet) -> TranscoderSet:
    """The set, marked as used on another text where that is so; the mark goes into every provenance."""
    differs = other_text(lm, transcoders)
    if not differs:
        return transcoders
    mark = {name: {"trained": was, "used": now} for name, (was, now) in differs.items()}
    return replace(transcoders, meta={**transcoders.meta, AS_IS: mark})
