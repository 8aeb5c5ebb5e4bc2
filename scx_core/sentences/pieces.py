"""Token ids of many cells: each gene's tokens are cut once and put together for every cell.

A tokenizer that splits at spaces cuts " GENE" the same way wherever it stands. Whether one does is looked at
and not believed: its cells are encoded one by one where the two ways differ anywhere.
Legend: C cells, R ranks, G genes, N tokens end to end, P pieces.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from tokenizers import Encoding
from transformers import PreTrainedTokenizerBase

from scx_core.sentences.encode import AS_TEXT, GENE, after_dropping, encode, too_long, warn_of
from scx_core.sentences.prompts import Prompt

FIRST, MIDDLE, LAST, ONLY = range(4)  # places of a gene in a sentence; the outer ones carry the prompt
GENES_A_TEST = 500  # genes in one text of the comparison
EDGE_TESTS = 64  # genes with which the parts of the prompt are compared with the whole


class Wording(NamedTuple):
    """All that stands around the genes, as `encode` takes it, and the names of the genes [G]."""

    tokenizer: PreTrainedTokenizerBase
    prompt: Prompt
    symbols: np.ndarray
    organism: str
    num_genes: int
    max_tokens: int | None = None


class EncodedBlock(NamedTuple):
    """Cells end to end: cell c is ids[start[c] : start[c + 1]], int32; its genes are the tokens from
    genes[c, 0] up to genes[c, 1], counted from its first."""

    ids_N: np.ndarray
    start: np.ndarray
    genes_C2: np.ndarray


Encoder = Callable[[np.ndarray], EncodedBlock]


def gathered(ids_N: np.ndarray, start: np.ndarray, pieces_P: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pieces of `ids_N` end to end (piece p is ids_N[start[p] : start[p + 1]]), and where each one ends."""
    length_P = np.diff(start)[pieces_P]
    end_P = np.cumsum(length_P)
    shift_P = start[pieces_P] - (end_P - length_P)
    return ids_N[np.arange(length_P.sum()) + np.repeat(shift_P, length_P)], end_P


def encode_one_by_one(words: Wording, ranked_CR: np.ndarray) -> EncodedBlock:
    """`encode` of every cell of `rank_matrix`. Raises ScxError where `encode` does."""
    cells, genes_C2 = [], []
    for ranked_R in ranked_CR:
        cell = encode(
            words.tokenizer,
            words.prompt,
            words.symbols[ranked_R[ranked_R >= 0]].tolist(),
            organism=words.organism,
            num_genes=words.num_genes,
            max_tokens=words.max_tokens,
        )
        cells.append(np.array(cell.ids, np.int32))
        genes_C2.append(_gene_range(cell.class_T))
    start = np.concatenate([[0], np.cumsum([len(ids) for ids in cells])]).astype(np.int64)
    return EncodedBlock(np.concatenate(cells), start, np.array(genes_C2, np.int32))


def _gene_range(class_T: np.ndarray) -> tuple[int, int]:
    where = np.flatnonzero(class_T == GENE)
    return (int(where[0]), int(where[-1]) + 1) if len(where) else (0, 0)


def _tokens_of(offsets: list[tuple[int, int]], chars: tuple[int, int], text: str) -> tuple[int, int]:
    """The tokens of the only gene of a text, as `assign_tokens` finds them."""

    def inside(t: int) -> bool:
        a, b = offsets[t]
        while a < b and text[a].isspace():
            a += 1
        return min(b, chars[1]) > max(a, chars[0])

    first = next((t for t in range(len(offsets)) if inside(t)), None)
    if first is None:
        return 0, 0
    return first, next(t for t in reversed(range(len(offsets))) if inside(t)) + 1


class Edges(NamedTuple):
    """The prompt around the genes: the tokens of its head, the text that is cut together with the first gene,
    that with the last gene, and the tokens of the rest. Thousands of genes are first or last in some cell."""

    head: list[int]
    left: str
    right: str
    rest: list[int]


def _edges(words: Wording) -> Edges:
    """The prompt parted at its last blank before the genes and the first one behind; whole where the parts do
    not give the tokens of the whole."""
    before, after = words.prompt.parts(num_genes=words.num_genes, organism=words.organism)
    left = before[max((at for at, sign in enumerate(before) if sign.isspace()), default=0) :]
    right = after[: next((at for at, sign in enumerate(after) if sign.isspace()), len(after))]

    def ids(text: str) -> list[int]:
        return words.tokenizer(text, **AS_TEXT)["input_ids"] if text else []

    bos = [] if words.prompt.bos is None else [words.prompt.bos]
    head, rest = ids(before[: len(before) - len(left)]), ids(after[len(right) :])
    for symbol in words.symbols[:: max(1, len(words.symbols) // EDGE_TESTS)].tolist():
        for whole, parts in (
            (before + symbol, head + ids(left + symbol)),
            (" " + symbol + after, ids(" " + symbol + right) + rest),
        ):
            if ids(whole) != parts:
                return Edges(bos, before, after, [])
    return Edges(bos + head, left, right, rest)


class Pieces:
    """The tokens of every gene in each of its places, cut when a place is first met."""

    def __init__(self, words: Wording) -> None:
        self.words = words
        self.edges = _edges(words)
        n_pieces = 4 * len(words.symbols)
        self._slot = np.full(n_pieces, -1, np.int64)  # where in the store each piece is
        self._genes_2 = np.zeros((0, 2), np.int32)
        self._ids_N, self._start = np.zeros(0, np.int32), np.zeros(1, np.int64)
        self._too_long_G: np.ndarray | None = None  # known when a cell first does not fit

    def cut(self, codes: np.ndarray) -> None:
        """Cut the pieces (place · G + gene) that are not in the store yet."""
        codes = codes[self._slot[codes] < 0]
        if not len(codes):
            return
        codes = np.unique(codes)
        places, genes = np.divmod(codes, len(self.words.symbols))
        edges, texts, chars = self.edges, [], []
        for place, symbol in zip(places.tolist(), self.words.symbols[genes].tolist(), strict=True):
            left = edges.left if place in (FIRST, ONLY) else " "
            texts.append(left + symbol + (edges.right if place in (LAST, ONLY) else ""))
            chars.append((len(left), len(left) + len(symbol)))
        pieces, ranges = [], []
        for place, text, span, found in zip(places.tolist(), texts, chars, self._read(texts), strict=True):
            ids = found.ids
            head = edges.head if place in (FIRST, ONLY) else []
            first, last = (0, len(ids)) if place == MIDDLE else _tokens_of(found.offsets, span, text)
            ranges.append((len(head) + first, len(head) + last))
            pieces.append([*head, *ids, *(edges.rest if place in (LAST, ONLY) else [])])
        lengths = [len(piece) for piece in pieces]
        self._slot[codes] = len(self._genes_2) + np.arange(len(codes))
        self._ids_N = np.concatenate([self._ids_N, *(np.array(piece, np.int32) for piece in pieces)])
        self._start = np.concatenate([self._start, self._start[-1] + np.cumsum(lengths)])
        self._genes_2 = np.concatenate([self._genes_2, np.array(ranges, np.int32)])

    def _read(self, texts: list[str]) -> list[Encoding]:
        """The texts as the tokenizer reads them, each on its own.

        The backend is asked: to make lists of what it found takes the tokenizer three times as long as the
        reading. Any call of the tokenizer tells the backend to take text as text and to cut and pad nothing.
        """
        self.words.tokenizer("", **AS_TEXT)
        return self.words.tokenizer.backend_tokenizer.encode_batch(texts, add_special_tokens=False)

    def encode(self, ranked_CR: np.ndarray) -> EncodedBlock:
        """The cells of `rank_matrix`, as `encode` writes them. Raises ScxError where `encode` does."""
        n_C = (ranked_CR >= 0).sum(1)
        self._check(ranked_CR, n_C)
        slots_M, n_C = self._fitting(ranked_CR, n_C)
        ids_N, end_M = gathered(self._ids_N, self._start, slots_M)
        last_C = np.cumsum(n_C) - 1
        start = np.concatenate([[0], end_M[last_C]]).astype(np.int64)
        first_C = last_C - n_C + 1
        length_last_C = np.diff(self._start)[slots_M[last_C]]
        after_C = length_last_C - self._genes_2[slots_M[last_C], 1]
        genes_C2 = np.stack([self._genes_2[slots_M[first_C], 0], np.diff(start) - after_C], 1)
        return EncodedBlock(ids_N, start, genes_C2.astype(np.int32))

    def _check(self, ranked_CR: np.ndarray, n_C: np.ndarray) -> None:
        """Raises ScxError where a cell has no genes."""
        if len(n_C) and n_C.min() <= 0:
            encode_one_by_one(self.words, ranked_CR[n_C <= 0][:1])  # says what is wrong

    def _fitting(self, ranked_CR: np.ndarray, n_C: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The stored pieces of all cells end to end, without the genes that `encode` leaves out and with the
        lowest genes dropped where a cell does not fit (as many as `encode` drops), and the number of genes of
        each cell."""
        limit, n_C = self.words.max_tokens, n_C.copy()
        looked_C = np.zeros(len(n_C), bool)
        while True:
            slots_M = self._slots(ranked_CR, n_C)
            if limit is None:
                return slots_M, n_C
            tokens_M = np.diff(self._start)[slots_M]
            surplus_C = np.add.reduceat(tokens_M, np.cumsum(n_C) - n_C) - limit
            long_C = surplus_C > 0
            if not long_C.any():
                return slots_M, n_C
            fewer_CR = self._without_too_long(ranked_CR, long_C & ~looked_C)
            looked_C |= long_C
            changed_C = (fewer_CR != ranked_CR).any(1)
            if changed_C.any():
                n_C[changed_C] = (fewer_CR[changed_C] >= 0).sum(1)
                self._check(ranked_CR, n_C)
                ranked_CR = fewer_CR
            drop_C = long_C & ~changed_C
            n_C[drop_C] = after_dropping(n_C[drop_C], surplus_C[drop_C])
            self._check(ranked_CR, n_C)

    def _without_too_long(self, ranked_CR: np.ndarray, where_C: np.ndarray) -> np.ndarray:
        """Some cells without the genes that do not fit even alone; the next ones move up."""
        held_CR = where_C[:, None] & (ranked_CR >= 0)
        if self._too_long_G is None:
            words = self.words
            names = too_long(
                words.tokenizer,
                words.prompt,
                words.symbols.tolist(),
                organism=words.organism,
                num_genes=words.num_genes,
                max_tokens=words.max_tokens,
            )
            self._too_long_G = np.array([symbol in names for symbol in words.symbols.tolist()])
        out_CR = held_CR & self._too_long_G[ranked_CR]
        if not out_CR.any():
            return ranked_CR
        ranked_CR, gone = np.where(out_CR, -1, ranked_CR), np.unique(ranked_CR[out_CR])
        order_CR = np.argsort(ranked_CR < 0, axis=1, kind="stable")
        warn_of(self.words.symbols[gone].tolist() if (ranked_CR >= 0).any(1).all() else ())
        return np.take_along_axis(ranked_CR, order_CR, 1)

    def _slots(self, ranked_CR: np.ndarray, n_C: np.ndarray) -> np.ndarray:
        n_genes, rank_R = len(self.words.symbols), np.arange(ranked_CR.shape[1])
        first_CR, last_CR = rank_R[None] == 0, rank_R[None] == n_C[:, None] - 1
        place_CR = np.where(first_CR, np.where(last_CR, ONLY, FIRST), np.where(last_CR, LAST, MIDDLE))
        codes_M = (place_CR * n_genes + ranked_CR)[rank_R[None] < n_C[:, None]]
        self.cut(codes_M)
        return self._slot[codes_M]

    def agrees(self, sample_CR: np.ndarray) -> bool:
        """Whether these cells, and all genes in one another's company, come out as they do whole."""
        n_genes = len(self.words.symbols)
        mixed = np.random.default_rng(0).permutation(n_genes)
        for start in range(0, n_genes, GENES_A_TEST):
            genes = mixed[start : start + GENES_A_TEST]
            codes = MIDDLE * n_genes + genes
            self.cut(codes)
            text = "".join(f" {symbol}" for symbol in self.words.symbols[genes].tolist())
            whole = self.words.tokenizer(text, **AS_TEXT)["input_ids"]
            if gathered(self._ids_N, self._start, self._slot[codes])[0].tolist() != whole:
                return False
        return all(
            np.array_equal(mine, theirs)
            for mine, theirs in zip(
                self.encode(sample_CR), encode_one_by_one(self.words, sample_CR), strict=True
            )
        )


def _splits_at_spaces(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether text is cut at spaces before its parts become tokens: no token can then span two genes."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None or backend.pre_tokenizer is None:
        return False
    if any(" " in str(token).strip() for token in tokenizer.get_added_vocab()):
        return False
    text = "AB1 CD2 EF3"
    if backend.normalizer is not None:
        text = backend.normalizer.normalize_str(text)
    return len(backend.pre_tokenizer.pre_tokenize_str(text)) >= 3


def block_encoder(words: Wording, sample_CR: np.ndarray) -> Encoder:
    """The fastest way to token ids that gives what `encode` gives: by pieces where they agree on some real
    cells and on all genes, else cell by cell."""
    if words.tokenizer.is_fast and _splits_at_spaces(words.tokenizer):
        pieces = Pieces(words)
        if pieces.agrees(sample_CR):
            return pieces.encode
    return lambda ranked_CR: encode_one_by_one(words, ranked_CR)
