"""The training text as token ids, encoded once, in memory or on disk, and the order in which it is read.

The order is a pure function of (seed, step): a resumed run needs no memory of what it has seen. A run keeps
its text on disk and reads it batch by batch, so that memory holds no text:
ids.bin  all cells' ids end to end, little-endian, two bytes each where the vocabulary allows
start.npy, answer.npy, genes.npy  the other fields of `TokenTexts`   tokens.json  what they were made from
Legend: C cells, B cells of a batch, T positions, N tokens end to end.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import pandas as pd
import torch

from scx_core.cells import CellTable
from scx_core.language import Language, whole_answers, with_answers, wording
from scx_core.runs import read_json, to_dict, write_json
from scx_core.runs.files import replace_atomic, write_atomic
from scx_core.runs.progress import Progress, silent
from scx_core.sentences import (
    SentenceConfig,
    block_encoder,
    encode_one_by_one,
    gathered,
    pad_left,
    rank_matrix,
)

Cells = Sequence[int] | np.ndarray
ROWS = 1024  # cells that are read and encoded at a time
BY_PIECES = 256  # cells from which on it is worth cutting every gene of the table on its own
SAMPLE = 16  # cells on which the fast way is compared with the slow one
LAYOUT = 1
ARRAYS = ("start", "answer", "genes")


class PaddedBatch(NamedTuple):
    """Left-padded int64 [B, T] on the model's device."""

    ids_BT: torch.Tensor
    mask_BT: torch.Tensor


class Ids(Protocol):
    """Token ids in memory or on disk."""

    def __len__(self) -> int:
        """All of them."""

    def __getitem__(self, part: slice, /) -> np.ndarray:
        """Some that follow one another."""


class TokenTexts(NamedTuple):
    """Prompt, answer and end-of-text of C cells end to end: cell c is ids[start[c] : start[c + 1]].

    The last `answer[c]` positions of a cell decide its label: from the prompt's last token on. Its genes are
    the positions from genes_C2[c, 0] up to genes_C2[c, 1]. `skip_prompt`: the others do not count.
    """

    ids: Ids
    start: np.ndarray
    answer: np.ndarray
    genes_C2: np.ndarray | None = None
    skip_prompt: bool = False

    @property
    def n_cells(self) -> int:
        """C."""
        return len(self.start) - 1

    def first(self, n: int) -> TokenTexts:
        """The first `n` cells."""
        genes_C2 = None if self.genes_C2 is None else self.genes_C2[:n]
        ids = self.ids[: int(self.start[min(n, self.n_cells)])]
        return self._replace(ids=ids, start=self.start[: n + 1], answer=self.answer[:n], genes_C2=genes_C2)

    def batch(self, lm: Language, cells: Cells) -> PaddedBatch:
        """Some cells, padded on the left, where the model is."""
        padded = pad_left([self.ids[self.start[c] : self.start[c + 1]] for c in cells], lm.pad_id)
        return PaddedBatch(*(torch.from_numpy(part).to(lm.device) for part in padded))

    def counted(self, mask_BT: torch.Tensor, cells: Cells) -> torch.Tensor:
        """The positions of a batch that are trained on, bool [B, T]: all but the padding, or, without the
        prompt, the genes and what decides the label."""
        real_BT = mask_BT.bool()
        if not self.skip_prompt:
            return real_BT
        out_BT, width = torch.zeros_like(real_BT), real_BT.shape[1]
        for b, c in enumerate(cells):
            first, last, answer = self._trained(c)
            shift = width - int(self.start[c + 1] - self.start[c])
            out_BT[b, shift + first : shift + last] = True
            out_BT[b, width - answer :] = True
        return out_BT

    def _trained(self, cell: int) -> tuple[int, int, int]:
        """First position and end of what is trained on before the answer, and the length of the answer."""
        answer = int(self.answer[cell])
        end = int(self.start[cell + 1] - self.start[cell]) - answer
        if not self.skip_prompt or self.genes_C2 is None:
            return 0, end, answer
        return int(self.genes_C2[cell, 0]), min(int(self.genes_C2[cell, 1]), end), answer

    def tokens_of(self, cells: Cells, part: slice) -> slice:
        """Where the counted tokens of `cells[part]` lie among those of `cells`, one cell after another."""
        lengths = np.array([last - first + answer for first, last, answer in map(self._trained, cells)])
        before = int(lengths[: part.start].sum())
        return slice(before, before + int(lengths[part].sum()))

    def weights(self, lm: Language, cells: Cells, answer_weight: float) -> torch.Tensor:
        """Weights of the cells' counted tokens one after another, float32 [tokens], 1 on average."""
        parts = []
        for c in cells:
            first, last, answer = self._trained(c)
            parts.append(np.repeat([1.0, answer_weight], [last - first, answer]))
        weights = torch.from_numpy(np.concatenate(parts)).float().to(lm.device)
        return weights / weights.mean()


class TextBlock(NamedTuple):
    """Some cells' part of `TokenTexts`: ids end to end [N], and of each cell its length, answer and genes."""

    ids_N: np.ndarray
    length_C: np.ndarray
    answer_C: np.ndarray
    genes_C2: np.ndarray


def encode_texts(
    lm: Language,
    table: CellTable,
    rows: np.ndarray,
    sentences: SentenceConfig,
    progress: Progress = silent,
    skip_prompt: bool = False,
) -> TokenTexts:
    """TokenTexts of the labelled cells at `rows`, as the model was trained to read them; 4 bytes a token.

    Raises ScxError where `encode` does (a cell without genes, a context that is too short).
    """
    blocks = list(text_blocks(lm, table, rows, sentences, progress))
    ids_N, length_C, answer_C, genes_C2 = (np.concatenate(part) for part in zip(*blocks, strict=True))
    return TokenTexts(ids_N, np.concatenate([[0], np.cumsum(length_C)]), answer_C, genes_C2, skip_prompt)


def text_blocks(
    lm: Language, table: CellTable, rows: np.ndarray, sentences: SentenceConfig, progress: Progress = silent
) -> Iterator[TextBlock]:
    """The texts of `rows` in order, `ROWS` cells at a time; what was handed out is not kept."""
    table = with_answers(lm, table)
    words = wording(lm, table, sentences)
    label_R, distinct = pd.factorize(table.answers[rows], sort=True)
    labels = distinct.tolist()
    encoder = None
    known = whole_answers(lm, table, [label for label in labels if label])
    # A cell whose type the model has no answer for is read without one.
    answers = [[*known[label], lm.eos_id] if label else [] for label in labels]
    for start in range(0, len(rows), ROWS):
        progress(start, len(rows), "writing cell sentences")
        part = np.asarray(rows[start : start + ROWS], dtype=np.int64)
        ranked_CR = rank_matrix(table.rows(part), part, sentences.n_genes, sentences.tie_seed)
        if encoder is None:
            some_CR = ranked_CR[:: max(1, len(ranked_CR) // SAMPLE)]
            few = len(rows) < BY_PIECES
            encoder = partial(encode_one_by_one, words) if few else block_encoder(words, some_CR)
        block = encoder(ranked_CR)
        # each cell's prompt with the answer of its label behind
        label_C = label_R[start : start + ROWS]
        n_cells = len(label_C)
        ids_N = np.concatenate([block.ids_N, *(np.array(ids, np.int32) for ids in answers)])
        lengths = [*np.diff(block.start).tolist(), *map(len, answers)]
        pieces_2C = np.stack([np.arange(n_cells), n_cells + label_C], 1).ravel()
        ids_N, end_2C = gathered(ids_N, np.concatenate([[0], np.cumsum(lengths)]), pieces_2C)
        length_C = np.diff(end_2C[1::2], prepend=0)
        answer_C = np.array([len(ids) + 1 for ids in answers], np.int32)[label_C]
        yield TextBlock(ids_N, length_C, answer_C, block.genes_C2)
    progress(len(rows), len(rows), "writing cell sentences")


@lru_cache(maxsize=2)
def _epoch_order(n_cells: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch]).permutation(n_cells)


def cells_of_step(step: int, n_cells: int, per_batch: int, seed: int) -> np.ndarray:
    """The cells of a step: every epoch reads all cells once, in an order of its own, in whole batches.

    The few that do not fill a batch are left out of that epoch.
    """
    size = min(per_batch, n_cells)
    epoch, place = divmod(step, n_cells // size)
    return _epoch_order(n_cells, seed, epoch)[place * size : (place + 1) * size]


class Stopped(Exception):
    """Asked to stop, with what was being done; that is gone, as if it had not begun."""


@dataclass(frozen=True)
class IdsOnDisk:
    """Token ids in a file. Every slice is read anew: a mapped file would count as memory in the end."""

    path: Path
    kind: str
    size: int

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, part: slice, /) -> np.ndarray:
        first, last, _ = part.indices(self.size)
        offset = first * np.dtype(self.kind).itemsize
        return np.fromfile(self.path, self.kind, max(0, last - first), offset=offset)


def cached_texts(
    folder: Path,
    lm: Language,
    table: CellTable,
    rows: np.ndarray,
    sentences: SentenceConfig,
    progress: Progress = silent,
    skip_prompt: bool = False,
    stopping: Callable[[], bool] | None = None,
) -> TokenTexts:
    """`encode_texts` with the ids on disk: from `folder` where they are the same cells', else written there.

    Raises ScxError where `encode_texts` does, and when the disk is full; Stopped when `stopping` turns true
    while it writes.
    """
    made_from = _made_from(lm, table, rows, sentences)
    record = folder / "tokens.json"
    if not (record.exists() and read_json(record).get("made_from") == made_from and _whole(folder)):
        record.unlink(missing_ok=True)
        _write(folder, text_blocks(lm, table, rows, sentences, progress), _kind(lm), stopping)
        write_json(record, {"made_from": made_from, "bytes": (folder / "ids.bin").stat().st_size})
    kind = _kind(lm)
    size = (folder / "ids.bin").stat().st_size // np.dtype(kind).itemsize
    start, answer_C, genes_C2 = (np.load(folder / f"{name}.npy", allow_pickle=False) for name in ARRAYS)
    return TokenTexts(IdsOnDisk(folder / "ids.bin", kind, size), start, answer_C, genes_C2, skip_prompt)


def _kind(lm: Language) -> str:
    return "<u2" if max(len(lm.tokenizer), lm.eos_id + 1) <= 2**16 else "<i4"


def _whole(folder: Path) -> bool:
    """Whether all files are there, as long as they were."""
    ids = folder / "ids.bin"
    there = ids.exists() and all((folder / f"{name}.npy").exists() for name in ARRAYS)
    return there and ids.stat().st_size == read_json(folder / "tokens.json")["bytes"]


def _made_from(lm: Language, table: CellTable, rows: np.ndarray, sentences: SentenceConfig) -> dict[str, Any]:
    """All that the ids depend on."""
    return {
        "layout": LAYOUT,
        "data": table.fingerprint,
        "model": lm.fingerprint,
        "tokenizer": _digest(lm.tokenizer.backend_tokenizer.to_str()),
        "lead": lm.settings.get("lead"),
        "contract": None if lm.contract is None else lm.contract.checkpoint,
        "bos": lm.bos_id,
        "sentences": to_dict(sentences),
        "organism": table.organism,
        "symbols": _digest("\0".join(table.symbols.tolist())),
        "labels": _digest("\0".join(table.answers[rows].tolist())),
        "rows": _digest(np.ascontiguousarray(rows, dtype="<i8").tobytes()),
    }


def _digest(content: str | bytes) -> str:
    return hashlib.sha256(content.encode() if isinstance(content, str) else content).hexdigest()


def _write(folder: Path, blocks: Iterator[TextBlock], kind: str, stopping: Callable[[], bool] | None) -> None:
    """Encode block by block into the folder; no file has its name before it is whole."""
    lengths, answers, genes = [], [], []

    def fill(path: Path) -> None:
        with open(path, "wb") as file:
            for block in blocks:
                if stopping is not None and stopping():
                    raise Stopped("reading cells")
                file.write(block.ids_N.astype(kind).tobytes())
                lengths.append(block.length_C)
                answers.append(block.answer_C)
                genes.append(block.genes_C2)

    replace_atomic(folder / "ids.bin", fill)
    start = np.concatenate([[0], np.cumsum(np.concatenate(lengths))])
    for name, values in zip(ARRAYS, (start, np.concatenate(answers), np.concatenate(genes)), strict=True):
        content = io.BytesIO()
        np.save(content, values, allow_pickle=False)
        write_atomic(folder / f"{name}.npy", content.getvalue())
