"""Prompt templates: our own, those of an installed `cell2sentence`, or the user's text."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from string import Formatter
from typing import NamedTuple

from scx_core.errors import ScxError
from scx_core.runs.options import option

C2S = re.compile(r"c2s-\d+")
# How to get the templates of Cell2Sentence, and what the package says of its licence.
INSTALL = "pip install --no-deps cell2sentence"
LICENCE = (
    "its package metadata state the licence BY-NC-ND, its source repository Apache-2.0; it is read where it "
    "is installed and nothing of it is part of scX"
)
FIELDS = frozenset({"num_genes", "organism", "cell_sentence"})
OWN_TEMPLATE = "{organism} cell, top {num_genes} genes: {cell_sentence}.\nCell type:"


class Prompt(NamedTuple):
    """A template with the fields {num_genes}, {organism}, {cell_sentence}; it ends with ':'.

    The answer that follows is the label, a full stop and the end-of-text token. `lead` is what stands
    between the prompt and the label: a space, nothing, or None when the checkpoint has to be asked. `end` is
    what stands behind the label: a full stop, tokens of the checkpoint's own, or both. `bos`: the token of
    beginning in front of everything, None for a model that has none.
    """

    name: str
    template: str
    lead: str | None = None
    end: str = "."
    bos: int | None = None

    def parts(self, *, num_genes: int, organism: str) -> tuple[str, str]:
        """Text before and after the cell sentence."""
        values = {"num_genes": str(num_genes), "organism": organism, "cell_sentence": ""}
        before: list[str] = []
        after: list[str] = []
        side = before
        for literal, field, _, _ in Formatter().parse(self.template):
            side.append(literal + (values[field] if field else ""))
            if field == "cell_sentence":
                side = after
        return "".join(before), "".join(after)


@dataclass(frozen=True)
class SentenceConfig:
    """How cells are written as text."""

    n_genes: int = option(150, "Genes in a sentence, highest expression first", minimum=2, maximum=8192)
    tie_seed: int = option(42, "Seed that orders genes of equal expression", minimum=0)
    prompt: str = option("scx", "Name of a prompt template, or a template text of your own")


def _cell2sentence_prompts() -> dict[str, Prompt]:
    """The installed package's own templates (it is optional and never imported, only read)."""
    package = find_spec("cell2sentence")
    if package is None or package.origin is None:
        return {}
    file = Path(package.origin).parent / "prompts" / "single_cell_cell_type_prediction_prompts.json"
    if not file.is_file():
        return {}
    found = json.loads(file.read_text("utf-8"))
    inputs = found["model_input"]
    inputs = [inputs] if isinstance(inputs, str) else inputs
    return {f"c2s-{i + 1}": Prompt(f"c2s-{i + 1}", text) for i, text in enumerate(inputs)}


def prompts() -> dict[str, Prompt]:
    """Every template that is available here by name; `scx` is our own."""
    return {"scx": Prompt("scx", OWN_TEMPLATE, lead=" ")} | _cell2sentence_prompts()


def make_prompt(text: str, lead: str | None = None) -> Prompt:
    """A template by name, or checked from the user's own text. A `lead` that is given wins over its own.

    Raises ScxError when a field is unknown or missing, or when the text does not end with ':'.
    """
    known = prompts()
    if text in known:
        return known[text] if lead is None else known[text]._replace(lead=lead)
    if C2S.fullmatch(text) and "c2s-1" not in known:
        raise ScxError(
            f"The prompt template {text} is part of the package cell2sentence, which is not installed.",
            f"Run: {INSTALL} ({LICENCE}). Or give a template of your own with --prompt.",
        )
    if "{" not in text:
        raise ScxError(f"There is no prompt template named {text!r}.", f"Known: {', '.join(known)}.")
    try:
        fields = [field for field in Formatter().parse(text) if field[1] is not None]
    except ValueError as error:
        raise ScxError(f"The prompt template cannot be read: {error}.", "Check its braces.") from error
    used = [name or "" for _, name, _, _ in fields]
    dressed = [name or "" for _, name, spec, conversion in fields if spec or conversion]
    if dressed:
        raise ScxError(
            f"The prompt template formats the fields {dressed}.",
            "Write {name} alone, without ':' or '!' inside.",
        )
    unknown = sorted(set(used) - FIELDS)
    if unknown or used.count("cell_sentence") != 1:
        raise ScxError(
            f"The prompt template has the fields {used}.",
            "Use {cell_sentence} exactly once, and {num_genes} or {organism} where wanted.",
        )
    if not text.endswith(":"):
        raise ScxError("The prompt template does not end with ':'.", "End it with ':' and no space.")
    return Prompt("custom", text, lead)
