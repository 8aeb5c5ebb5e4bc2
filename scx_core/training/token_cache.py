"""The training text on disk: encoded once a run, read batch by batch, so that memory holds no text.

ids.bin  all cells' ids end to end, little-endian, two bytes each where the vocabulary allows
start.npy, answer.npy, genes.npy  the other fields of `Texts`      tokens.json  what they were made from
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from scx_core.cells import CellTable
from scx_core.language import Language
from scx_core.runs import read_json, to_dict, write_json
from scx_core.runs.files import replace_atomic, write_atomic
from scx_core.runs.progress import Progress, silent
from scx_core.sentences import SentenceConfig
from scx_core.training.tokens import TextBlock, Texts, text_blocks

LAYOUT = 1
ARRAYS = ("start", "answer", "genes")


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


def kept_texts(
    folder: Path,
    lm: Language,
    table: CellTable,
    rows: np.ndarray,
    sentences: SentenceConfig,
    progress: Progress = silent,
    skip_prompt: bool = False,
    stopping: Callable[[], bool] | None = None,
) -> Texts:
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
    return Texts(IdsOnDisk(folder / "ids.bin", kind, size), start, answer_C, genes_C2, skip_prompt)


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
