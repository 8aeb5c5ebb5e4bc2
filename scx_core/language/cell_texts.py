"""One text for a cell, whoever reads it: training, validation, tracing, atlas and evidence.

What decides the text stands here and nowhere else: the prompt with its token of beginning, the number of
genes, the order of ties, how many tokens the sentence may have (the context less the longest answer and the
end of text), and what the checkpoint expects before and behind an answer, which is asked once and kept with
the model.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np

from scx_core.cells import CellTable
from scx_core.language.answers import answers_of, score_answers
from scx_core.language.label_map import with_answers
from scx_core.language.loading import Language
from scx_core.sentences import EncodedCell, SentenceConfig, Wording, answer_ids, encode, gene_sentences
from scx_core.sentences.encode import too_long, too_long_words

LEADS = (" ", "")
ASKED_CELLS = 8  # labelled cells that the checkpoint is asked on
_TOKENS_A_BYTE, _TOLD = 12, 3  # at most, with what normalising a letter can make of it; names in warnings
_UNKNOWN_LEAD = " "  # what a text is measured with before the lead is known: the longer of the two


class AnswerAffixes(NamedTuple):
    """What stands before a label and behind it."""

    lead: str
    end: str


def answer_labels(lm: Language, table: CellTable) -> list[str]:
    """The candidate answers: the model's own labels where it states them, else the types of the table."""
    return lm.labels or sorted(set(with_answers(lm, table).answers.tolist()) - {""})


def text_limit(lm: Language, table: CellTable) -> int:
    """Tokens that a prompt may have: the context less the longest answer and the end of text."""
    labels = {*answer_labels(lm, table), *set(with_answers(lm, table).answers.tolist())} - {""}
    end = max(lm.answer_ends, key=len)
    lengths = [len(answer_ids(lm.tokenizer, label, _UNKNOWN_LEAD, end)) for label in sorted(labels)]
    return lm.facts.context - max(lengths, default=0) - 1


def encode_cells(
    lm: Language,
    table: CellTable,
    rows: Sequence[int] | np.ndarray,
    *,
    without: Collection[str] = (),
    sentences: SentenceConfig | None = None,
) -> list[EncodedCell]:
    """The prompts of some rows, as this model is given them everywhere.

    `without`: genes that are left out; the next ones move up, also from beyond the last of the sentence.
    `sentences`: another configuration than the model's own (training may ask for one).
    """
    cfg = sentences or lm.sentence_config
    prompt, limit, left_out = lm.prompt_for(cfg), text_limit(lm, table), set(without)
    return [
        encode(
            lm.tokenizer,
            prompt,
            [gene for gene in genes if gene not in left_out][: cfg.n_genes],
            organism=table.organism,
            num_genes=cfg.n_genes,
            max_tokens=limit,
        )
        for genes in gene_sentences(table, rows, cfg.n_genes + len(left_out), cfg.tie_seed)
    ]


def wording(lm: Language, table: CellTable, sentences: SentenceConfig | None = None) -> Wording:
    """How cells of this table are written for this model, for encoding many ranked cells at once
    (`sentences.block_encoder`). `sentences` as in `encode_cells`."""
    cfg = sentences or lm.sentence_config
    limit = text_limit(lm, table)
    return Wording(lm.tokenizer, lm.prompt_for(cfg), table.symbols, table.organism, cfg.n_genes, limit)


def name_warnings(lm: Language, table: CellTable) -> tuple[str, ...]:
    """A sentence for each gene whose name no sentence of this model can hold, so that it is left out."""
    words = wording(lm, table)
    limit = words.max_tokens or 0
    symbols = [str(symbol) for symbol in words.symbols]
    long = [name for name in symbols if _TOKENS_A_BYTE * len(name.encode("utf-8", "replace")) > limit]
    found = too_long(
        words.tokenizer,
        words.prompt,
        long,
        organism=words.organism,
        num_genes=words.num_genes,
        max_tokens=limit,
    )
    told = [too_long_words(name) for name in sorted(found)]
    more = f"So it is with {len(told) - _TOLD:,} more genes."
    return (*told[:_TOLD], more) if len(told) > _TOLD else tuple(told)


def answer_form(lm: Language, table: CellTable) -> AnswerAffixes:
    """What the checkpoint expects before and behind a label: as its settings say, else asked on a few cells.

    A property of the checkpoint that its files do not state (method §4). Of every lead and every end that is
    possible, the pair is taken under which the likeliest label of each cell is likeliest, mean over cells; an
    end without a control token is followed by the end of text. Asked once: the model keeps the answer.
    """
    prompt = lm.sentence_config.prompt
    if prompt in lm.asked:
        return AnswerAffixes(*lm.asked[prompt])
    ends, known = lm.answer_ends, lm.prompt.lead
    leads = LEADS if known is None else (known,)
    forms = [AnswerAffixes(lead, end) for lead in leads for end in ends]
    best = forms[0]
    if len(forms) > 1:
        rows = np.flatnonzero(table.labels != "")[:ASKED_CELLS]
        cells = encode_cells(lm, table, rows if len(rows) else [0])
        best = max(forms, key=lambda form: _likelihood(lm, cells, answer_labels(lm, table), form))
        lm.asked[prompt] = (best.lead, best.end)
    return best


def _likelihood(
    lm: Language, cells: Sequence[EncodedCell], labels: Sequence[str], form: AnswerAffixes
) -> float:
    """Mean over cells of the log-probability of the likeliest whole answer in this form (nats)."""
    stop = () if form.end.removeprefix(".") else (lm.eos_id,)
    answers = [(*answer_ids(lm.tokenizer, label, form.lead, form.end), *stop) for label in labels]
    return float(score_answers(lm, [cell.ids for cell in cells], answers).sum(-1).max(1).mean())


def whole_answers(lm: Language, table: CellTable, labels: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Token ids of answers in the form that the checkpoint expects."""
    return answers_of(lm, labels, answer_form(lm, table).lead)
