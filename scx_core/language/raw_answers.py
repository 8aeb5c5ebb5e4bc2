"""What a model says when it may say anything: its raw answers, and how many of them are labels.

A score of each candidate label says which of them is likeliest, never that the model would write any of them.
A checkpoint that is read with another text than its own writes prose, genes or nothing; that shows only here.
Legend: B cells, T token positions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from transformers import DynamicCache

from scx_core.cells import CellTable
from scx_core.errors import ScxError
from scx_core.language.cell_texts import AnswerAffixes, answer_form, answer_labels, encode_cells
from scx_core.language.hooks import positions
from scx_core.language.label_map import Mapped, with_answers
from scx_core.language.loading import Language
from scx_core.sentences import pad_left
from scx_core.statistics.intervals import Interval, wilson

CELLS, SHOWN, SEED = 24, 5, 0
OF_A_TYPE = 8  # cells that are asked to propose an answer for a type without one
NEW_TOKENS = 24  # longer than any usual name of a cell type
ENOUGH = 0.5  # below this share of answers that are labels there is a warning
CACHE_BYTES = 1_000_000_000
PROMPT_SIGNS = 700  # of a prompt, when it is shortened in its middle


class RawAnswer(NamedTuple):
    """What the model wrote for one cell, greedily. `expected`: the answer that the mapping of labels gives
    its type, "" for none. `text`: as written, without the token that ended it, `ended`: that token, "" where
    the model had not ended after `NEW_TOKENS`. `parsed`: the candidate label that the text is, "" if none.
    """

    row: int
    cell: str
    label: str
    expected: str
    text: str
    ended: str
    parsed: str


class RawAnswers(NamedTuple):
    """Raw answers of some cells, drawn with a seed. `prompt`: the first cell's, as it was sent, with its
    special tokens; `tokens`: its length; `form`: what the checkpoint expects before and behind a label;
    `trained_on`: the model was trained on some of these cells; it
    is asked about others where there are any."""

    answers: tuple[RawAnswer, ...]
    form: AnswerAffixes
    prompt: str
    tokens: int
    candidates: tuple[str, ...]
    trained_on: bool = False

    @property
    def n(self) -> int:
        """Cells that were asked."""
        return len(self.answers)

    @property
    def k(self) -> int:
        """Cells whose raw answer is one of the candidate labels."""
        return sum(bool(one.parsed) for one in self.answers)

    @property
    def interval(self) -> Interval:
        """Of the share k / n: Wilson's, 95%."""
        return wilson(self.k, self.n)

    @property
    def right(self) -> tuple[int, int, int]:
        """Of the cells whose type has an answer: how many the model names so, how many one answer for all
        would, that of the most frequent type, and how many there are."""
        known = [one for one in self.answers if one.expected]
        most = max(Counter(one.expected for one in known).values(), default=0)
        return sum(one.parsed == one.expected for one in known), most, len(known)

    @property
    def right_words(self) -> str:
        """How many answers are the one of the cell's type, beside the rival that needs no model."""
        right, most, n = self.right
        if not n:
            return "No cell that was asked is of a type that has an answer."
        low, high = wilson(right, n)
        return (
            f"{right} of {n} are the answer of the cell's own type (95% interval {low:.0%} to {high:.0%}; "
            f"the most frequent type's answer for every cell: {most} of {n})."
        ) + (" The model was trained on these cells." if self.trained_on else "")

    @property
    def too_few(self) -> bool:
        """Whether fewer than half of the answers are labels."""
        return self.k < ENOUGH * self.n

    @property
    def words(self) -> str:
        """How many answers are labels, for people."""
        low, high = self.interval
        return (
            f"{self.k} of {self.n} raw answers are one of the {len(self.candidates)} candidate labels "
            f"({self.k / self.n:.0%}, 95% interval {low:.0%} to {high:.0%})."
        )

    @property
    def warning(self) -> str:
        """What it means when too few are; empty when enough are."""
        if not self.too_few:
            return ""
        return (
            "Fewer than half of the raw answers are labels: the model was not taught to answer so, "
            "the text is not the one that it was trained on, or its answers have other names. A circuit "
            "explains a label that the model would not write."
        )

    @property
    def form_words(self) -> str:
        """The form of an answer, for people."""
        lead = "a blank" if self.form.lead == " " else repr(self.form.lead) if self.form.lead else "nothing"
        return f"Before a label stands {lead}, behind it “{self.form.end}”."


class Suggested(NamedTuple):
    """An answer for a type that has none, and why: the model writes `written` for `k` of its `n` cells that
    were asked, and for `rival_k` of `rival_n` of the other type that it writes it for most often.
    `answer`: "" where that proposes nothing."""

    label: str
    answer: str
    written: str
    k: int
    n: int
    rival: str
    rival_k: int
    rival_n: int

    @property
    def words(self) -> str:
        """What was found, for people."""
        if not self.written:
            return f"the model writes no answer of its own for any of {self.n} cells"
        told = f"the model writes “{self.written}” for {self.k} of {self.n} cells"
        if self.rival_k:
            told += f", and for {self.rival_k} of {self.rival_n} of “{self.rival}”"
        return told + ("" if self.answer else ": no proposal")


class Fit(NamedTuple):
    """One sentence on whether cells and model fit, in a few words; `good` when it speaks for it."""

    good: bool
    words: str


def fit_of(mapped: Sequence[Mapped], raw: RawAnswers | None = None) -> tuple[Fit, ...]:
    """Whether cells and model fit: types that have an answer, raw answers that are labels, answers that are
    right beside one answer for all. Without raw answers only the first."""
    k, n = sum(bool(one.answer) for one in mapped), len(mapped)
    found = [Fit(k == n, f"{k} of {n} types have an answer of the model")]
    if raw is not None:
        right, most, known = raw.right
        seen = " (of cells it was trained on)" if raw.trained_on else ""
        found.append(Fit(not raw.too_few, f"{raw.k} of {raw.n} raw answers are labels"))
        if known:
            found.append(Fit(right > most, f"{right} of {known} are right{seen}, one answer for all: {most}"))
    return tuple(found)


def raw_answers(lm: Language, table: CellTable, cells: int = CELLS, seed: int = SEED) -> RawAnswers:
    """Let the model write its answer for some labelled cells, drawn with the seed, token by token
    the likeliest.

    Raises ScxError when no cell has a label.
    """
    table = with_answers(lm, table)
    labelled = np.flatnonzero(table.labels != "")
    if not len(labelled):
        raise ScxError(f"{table.name} has no labelled cells.", "Choose a label column.")
    trained = _trained_on(lm, table)
    fresh = np.setdiff1d(labelled, trained)
    labelled = fresh if len(fresh) else labelled
    drawn = np.random.default_rng(seed).permutation(labelled)[:cells]
    prompts = [cell.ids for cell in encode_cells(lm, table, drawn)]
    candidates = answer_labels(lm, table)
    answers = tuple(
        RawAnswer(
            int(row), str(table.cell_ids[row]), str(table.labels[row]), str(table.answers[row]),
            text, ended, parse(text, candidates),
        )
        for row, (text, ended) in zip(drawn, generate(lm, prompts), strict=True)
    )  # fmt: skip
    sent = str(lm.tokenizer.decode(list(prompts[0]), clean_up_tokenization_spaces=False))
    seen = bool(np.isin(drawn, trained).any())
    return RawAnswers(answers, answer_form(lm, table), sent, len(prompts[0]), tuple(candidates), seen)


def suggest_answers(
    lm: Language, table: CellTable, mapped: Sequence[Mapped], cells: int = OF_A_TYPE, seed: int = SEED
) -> tuple[Suggested, ...]:
    """An answer for each type that has none in `mapped`, for a person to accept or not: what the model writes
    for most of its cells and for fewer than half of any other type's. Up to `cells` of every type are asked,
    drawn with the seed.

    A model that gives one answer to all cells proposes nothing so. A proposal is no evidence: where the
    model's own answer is taken for a type's, it is right by definition.
    """
    said = _said_of_types(lm, table, [one.label for one in mapped], cells, seed)
    return tuple(_suggested(one.label, said) for one in mapped if not one.answer)


def _said_of_types(
    lm: Language, table: CellTable, labels: Sequence[str], cells: int, seed: int
) -> dict[str, list[str]]:
    """What is written for the cells that are drawn of each type: an answer of the model, "" where none."""
    rng, drawn = np.random.default_rng(seed), list[tuple[str, int]]()
    for label in labels:
        rows = rng.permutation(np.flatnonzero(table.labels == label))[:cells]
        drawn += [(label, int(row)) for row in rows]
    prompts = [cell.ids for cell in encode_cells(lm, with_answers(lm, table), [row for _, row in drawn])]
    said: dict[str, list[str]] = {label: [] for label in labels}
    for (label, _), (text, _) in zip(drawn, generate(lm, prompts), strict=True):
        said[label].append(parse(text, lm.labels or [text.strip().removesuffix(".").rstrip()]))
    return said


def _suggested(label: str, said: Mapping[str, Sequence[str]]) -> Suggested:
    own = said[label]
    answer, k = Counter(one for one in own if one).most_common(1)[0] if any(own) else ("", 0)
    shares = {other: texts.count(answer) / len(texts) for other, texts in said.items() if other != label}
    rival = max(shares, key=lambda other: shares[other], default="")
    of_rival = (said[rival].count(answer), len(said[rival])) if rival else (0, 0)
    good = 2 * k > len(own) and 2 * of_rival[0] < of_rival[1]
    return Suggested(label, answer if good else "", answer, k, len(own), rival, *of_rival)


def _trained_on(lm: Language, table: CellTable) -> np.ndarray:
    """Rows of the table that the model was trained on, as far as its settings say."""
    if lm.settings.get("data", {}).get("fingerprint") != table.fingerprint:
        return np.zeros(0, dtype=np.int64)
    split = lm.settings.get("split", {})
    return np.array(split.get("train", range(table.n_cells)), dtype=np.int64)


def parse(text: str, candidates: Sequence[str]) -> str:
    """The candidate that a raw answer is, blanks around it and a full stop at its end left off: spelled the
    same, else the only one that differs in case alone; "" where there is none."""
    said = text.strip().removesuffix(".").rstrip()
    if said in candidates:
        return said
    alike = [one for one in candidates if one.lower() == said.lower()]
    return alike[0] if len(alike) == 1 else ""


def shortened(text: str, most: int = PROMPT_SIGNS) -> str:
    """A long text with its middle left out, and how much that is."""
    if len(text) <= most:
        return text
    head, tail = text[: most * 2 // 3], text[-(most // 3) :]
    return f"{head} … ({len(text) - len(head) - len(tail):,} signs left out) … {tail}"


def stop_tokens(lm: Language) -> tuple[int, ...]:
    """Tokens that end an answer: the end of text, the control tokens of the checkpoint, the end of a turn."""
    known = lm.tokenizer.get_vocab()
    control = {end.removeprefix(".") for end in (*lm.answer_ends, "<end_of_turn>")} - {""}
    return tuple(sorted({lm.eos_id, *(known[end] for end in control if end in known)}))


def generate(
    lm: Language, prompts: Sequence[Sequence[int]], new_tokens: int = NEW_TOKENS
) -> list[tuple[str, str]]:
    """Text that follows each prompt, taking the likeliest token each time, and the token that ended it (""
    where none did). A full stop does not end an answer: what a model writes after one is worth seeing."""
    room = lm.facts.context - max(map(len, prompts))
    ends = stop_tokens(lm)
    stops = torch.tensor(ends, device=lm.device)
    out: list[tuple[str, str]] = []
    for part in _batches(lm, prompts, new_tokens):
        for ids in _greedy(lm, part, stops, min(new_tokens, room)).tolist():
            end = next((t for t, token in enumerate(ids) if token in ends), None)
            text = str(lm.tokenizer.decode(ids[:end], clean_up_tokenization_spaces=False))
            out.append((text, "" if end is None else lm.text(ids[end])))
    return out


def _batches(lm: Language, prompts: Sequence[Sequence[int]], more: int) -> list[Sequence[Sequence[int]]]:
    """Prompts in parts whose key/value caches stay below `CACHE_BYTES`."""
    facts, width = lm.facts, max(map(len, prompts)) + more
    a_token = 2 * facts.n_layers * facts.n_value_heads * facts.head_width * lm.unembedding.element_size()
    at_once = max(1, min(8, CACHE_BYTES // (a_token * width)))
    return [prompts[start : start + at_once] for start in range(0, len(prompts), at_once)]


@torch.no_grad()
def _greedy(
    lm: Language, prompts: Sequence[Sequence[int]], stops: torch.Tensor, new_tokens: int
) -> torch.Tensor:
    """Likeliest continuations [B, ≤ new_tokens]; behind a stop the tokens mean nothing."""
    padded = pad_left(prompts, lm.pad_id)
    ids_BT = torch.from_numpy(padded.ids_BT).to(lm.device)
    mask_BT = torch.from_numpy(padded.mask_BT).to(lm.device)
    cache, found = DynamicCache(), list[torch.Tensor]()
    ended_B = torch.zeros(len(prompts), dtype=torch.bool, device=lm.device)
    while len(found) < new_tokens and not bool(ended_B.all()):
        logits = lm.model(
            input_ids=ids_BT,
            attention_mask=mask_BT,
            position_ids=positions(mask_BT)[:, -ids_BT.shape[1] :],
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits
        next_B = logits[:, -1].argmax(-1)
        found.append(next_B)
        ended_B |= torch.isin(next_B, stops)
        ids_BT, mask_BT = next_B[:, None], torch.cat([mask_BT, torch.ones_like(mask_BT[:, :1])], 1)
    return torch.stack(found, 1)
