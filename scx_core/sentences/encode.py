"""Sentences become token ids, with the character and token span of every gene.

Legend: B cells of a batch, T token positions.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from transformers import PreTrainedTokenizerBase

from scx_core.errors import ScxError
from scx_core.sentences.prompts import Prompt

PROMPT, GENE, ANSWER = 0, 1, 2
TOKEN_CLASSES = ("prompt", "gene", "answer")
# Genes and labels are untrusted: one that is spelled like a special token must not become it.
AS_TEXT = {"add_special_tokens": False, "split_special_tokens": True}


class GeneSpan(NamedTuple):
    """A gene's tokens: positions start ≤ t < end. `rank` counts from 1, `chars` index the text."""

    gene: str
    rank: int
    start: int
    end: int
    chars: tuple[int, int]


class EncodedCell(NamedTuple):
    """A prompt ready for the model. `class_T` holds PROMPT or GENE for each of `ids`."""

    ids: tuple[int, ...]
    spans: tuple[GeneSpan, ...]
    class_T: np.ndarray
    text: str

    @property
    def genes(self) -> list[str]:
        """The genes of the sentence in order."""
        return [span.gene for span in self.spans]

    def gene_at(self) -> list[str | None]:
        """The gene of each token position, None outside the genes."""
        out: list[str | None] = [None] * len(self.ids)
        for span in self.spans:
            out[span.start : span.end] = [span.gene] * (span.end - span.start)
        return out


class Padded(NamedTuple):
    """Left-padded ids and mask, int64 [B, T]."""

    ids_BT: np.ndarray
    mask_BT: np.ndarray


def _layout(
    prompt: Prompt, genes: Sequence[str], num_genes: int, organism: str
) -> tuple[str, list[tuple[int, int]]]:
    """The prompt's text and the character span of every gene in it."""
    before, after = prompt.parts(num_genes=num_genes, organism=organism)
    spans, at = [], len(before)
    for gene in genes:
        spans.append((at, at + len(gene)))
        at += len(gene) + 1
    return before + " ".join(genes) + after, spans


def assign_tokens(
    offsets: Sequence[tuple[int, int]], gene_chars: Sequence[tuple[int, int]], text: str
) -> tuple[list[tuple[int, int]], np.ndarray]:
    """Token range of each gene: the tokens whose characters, white space aside, overlap the gene's.

    A token over two genes goes to the one that it shares more characters with (the first, if equal).
    """
    owner_T = np.full(len(offsets), -1)
    gene = 0
    for t, (a, b) in enumerate(offsets):
        while a < b and text[a].isspace():
            a += 1
        while gene < len(gene_chars) and gene_chars[gene][1] <= a:
            gene += 1
        best = 0
        for g in range(gene, len(gene_chars)):
            if gene_chars[g][0] >= b:
                break
            shared = min(b, gene_chars[g][1]) - max(a, gene_chars[g][0])
            if shared > best:
                best, owner_T[t] = shared, g
    starts = np.searchsorted(np.where(owner_T < 0, -1, owner_T)[owner_T >= 0], np.arange(len(gene_chars) + 1))
    where = np.flatnonzero(owner_T >= 0)
    ranges = []
    for a, b in itertools.pairwise(starts):
        ranges.append((int(where[a]), int(where[b - 1]) + 1) if b > a else (0, 0))
    class_T = np.full(len(offsets), PROMPT, dtype=np.int8)
    for start, end in ranges:  # and not by owner: white space inside a name is part of the gene
        class_T[start:end] = GENE
    return ranges, class_T


def encode(
    tokenizer: PreTrainedTokenizerBase,
    prompt: Prompt,
    genes: Sequence[str],
    *,
    organism: str = "Homo sapiens",
    num_genes: int | None = None,
    max_tokens: int | None = None,
) -> EncodedCell:
    """Tokenize one cell; the lowest genes are dropped until the prompt fits `max_tokens`. A gene whose name
    does not fit even alone is left out wherever it stands, with a warning that names it.

    `num_genes` is the number that the prompt states (the requested one, even if the cell has fewer).
    Works with any fast Hugging Face tokenizer; a token of beginning stands in front where the prompt has one
    (`prompt.bos`), and counts as a token of the prompt. Raises ScxError for a slow tokenizer, a cell
    without genes, or a context that cannot hold one gene.
    """
    if not tokenizer.is_fast:
        raise ScxError("The tokenizer is a slow one.", "Gene spans need a fast tokenizer (tokenizer.json).")
    genes, looked = list(genes), False
    stated = num_genes if num_genes is not None else len(genes)
    while genes:
        text, gene_chars = _layout(prompt, genes, stated, organism)
        found = with_bos(tokenizer(text, return_offsets_mapping=True, **AS_TEXT), prompt.bos)
        surplus = len(found["input_ids"]) - max_tokens if max_tokens is not None else 0
        if surplus <= 0 or not looked:
            ranges, class_T = assign_tokens(found["offset_mapping"], gene_chars, text)
        if surplus <= 0:
            spans = tuple(
                GeneSpan(gene, rank + 1, start, end, chars)
                for rank, (gene, (start, end), chars) in enumerate(
                    zip(genes, ranges, gene_chars, strict=True)
                )
            )
            return EncodedCell(tuple(found["input_ids"]), spans, class_T, text)
        if not looked:
            looked = True
            room = len(found["input_ids"]) - surplus - int((class_T == PROMPT).sum())
            long = [gene for gene, (a, b) in zip(genes, ranges, strict=True) if b - a > _suspect(room)]
            out = too_long(
                tokenizer, prompt, long, organism=organism, num_genes=stated, max_tokens=max_tokens
            )
            if out:
                genes = [gene for gene in genes if gene not in out]
                warn_of(out if genes else ())
                continue
        # A gene takes at most a handful of tokens: dropping surplus/6 of them never overshoots by much.
        genes = genes[: int(after_dropping(len(genes), surplus))]
    raise ScxError(
        "A cell has no genes that fit into the prompt.",
        f"Check its expression and the model's context length ({max_tokens} tokens).",
    )


def after_dropping(n_genes: int | np.ndarray, surplus: int | np.ndarray) -> np.ndarray:
    """How many genes stay when a prompt has so many tokens too many; the first one stays to the last."""
    return np.maximum(n_genes - np.maximum(1, surplus // 6), np.minimum(1, n_genes - 1))


def _suspect(room: int) -> float:
    """Tokens in a sentence from which on a gene is tried alone: next to the ends of the prompt it may have
    some more or fewer."""
    return min(room / 2, room - 8)


def too_long(
    tokenizer: PreTrainedTokenizerBase,
    prompt: Prompt,
    genes: Iterable[str],
    *,
    organism: str,
    num_genes: int,
    max_tokens: int | None,
) -> frozenset[str]:
    """The genes that do not fit into the prompt even alone."""
    names = sorted(set(genes))
    if max_tokens is None or not names:
        return frozenset()
    texts = [_layout(prompt, [gene], num_genes, organism)[0] for gene in names]
    most = max_tokens - (prompt.bos is not None)
    ids = tokenizer(texts, **AS_TEXT)["input_ids"]
    return frozenset(gene for gene, found in zip(names, ids, strict=True) if len(found) > most)


def warn_of(genes: Iterable[str]) -> None:
    """Say that names of genes are too long for the model to read."""
    for gene in sorted(genes):
        warnings.warn(too_long_words(gene), stacklevel=3)


def too_long_words(gene: str) -> str:
    """What is done about a gene whose name no sentence can hold, and what helps."""
    named = repr(gene if len(gene) <= 40 else f"{gene[:40]}…")
    return (
        f"The gene {named} has a name of {len(gene):,} letters, which does not fit into the model's context: "
        "it is left out of every sentence. Give it a shorter name."
    )


def with_bos(found: Mapping[str, Any], bos: int | None) -> Mapping[str, Any]:
    """A tokenizer's ids and offsets, with the token of beginning in front where there is one."""
    if bos is None:
        return found
    return {"input_ids": [bos, *found["input_ids"]], "offset_mapping": [(0, 0), *found["offset_mapping"]]}


def answer_ids(tokenizer: PreTrainedTokenizerBase, label: str, lead: str, end: str = ".") -> tuple[int, ...]:
    """Token ids of an answer: `lead`, the label and its `end` (the end-of-text token is not included).

    The label is text, whatever it spells; of the end, what is a special token of the tokenizer is that token.
    """
    stop = "." if end.startswith(".") else ""
    control = end.removeprefix(".")
    # what spells a control token, also one that is not called special, is cut behind its first sign: text
    parts = [f"{lead}{label}{stop}"]
    for token in tokenizer.get_added_vocab():
        parts = [piece for part in parts for piece in _cut(part, token)]
    ids = [token for part in parts for token in tokenizer(part, **AS_TEXT)["input_ids"]]
    ids += [int(tokenizer.convert_tokens_to_ids(control))] if control else []  # type: ignore[arg-type]
    return tuple(ids)


def _cut(text: str, token: str) -> list[str]:
    at = text.find(token) if len(token) > 1 and token.strip() else -1
    return [text] if at < 0 else [text[: at + 1], *_cut(text[at + 1 :], token)]


def pad_left(sequences: Sequence[Sequence[int] | np.ndarray], pad_id: int) -> Padded:
    """Stack sequences of different lengths, padded on the left so that the last column is the newest."""
    width = max(len(s) for s in sequences)
    ids_BT = np.full((len(sequences), width), pad_id, dtype=np.int64)
    mask_BT = np.zeros_like(ids_BT)
    for b, s in enumerate(sequences):
        ids_BT[b, width - len(s) :] = s
        mask_BT[b, width - len(s) :] = 1
    return Padded(ids_BT, mask_BT)
