"""Which cells a search sees, which verify it, and which give the reference: three groups without overlap."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from scx_core.circuits.config import ConsensusConfig
from scx_core.circuits.tracer import Tracer
from scx_core.errors import ScxError

LEAST_CELLS = 4


class Groups(NamedTuple):
    """Rows of the table, ascending."""

    search: np.ndarray
    unseen: np.ndarray
    reference: np.ndarray


def draw_groups(
    tracer: Tracer, label: str, n_search: int, n_unseen: int, n_reference: int, seed: int
) -> Groups:
    """Rows for a type: `search` are those that a consensus of so many cells draws, at most half of them all.

    Raises ScxError when the type has too few cells.
    """
    own = np.flatnonzero(tracer.table.labels == label)
    if 0 < len(own) < LEAST_CELLS:
        raise ScxError(
            f"{tracer.table.name} holds {len(own)} cells of the type {label!r}.",
            f"A search and its verification need at least {LEAST_CELLS}.",
        )
    n = max(2, min(n_search, len(own) // 2))
    search = tracer.draw(label, ConsensusConfig(cells=n, seed=seed))
    rest = np.random.default_rng(seed).permutation(np.setdiff1d(own, search))
    return Groups(search, np.sort(rest[:n_unseen]), draw_reference(tracer, label, n_reference, seed))


def groups_of_cell(tracer: Tracer, row: int, answer: str | None, n_reference: int, seed: int) -> Groups:
    """One cell; the reference leaves out its own type (without a label: the type of the answer, if given).

    Raises ScxError when there is no such row.
    """
    if not 0 <= row < tracer.table.n_cells:
        raise ScxError(
            f"There is no cell {row} in {tracer.table.name}.",
            f"Rows run from 0 to {tracer.table.n_cells - 1}.",
        )
    label = str(tracer.table.labels[row]) or answer or ""
    none = np.zeros(0, dtype=np.int64)
    return Groups(np.array([row]), none, draw_reference(tracer, label, n_reference, seed))


def draw_reference(tracer: Tracer, label: str, n_cells: int, seed: int) -> np.ndarray:
    """Rows of all types but this one, equally many of each as far as there are."""
    rng, labels = np.random.default_rng(seed), tracer.table.labels
    others = [name for name in tracer.table.types if name != label]
    each = max(1, n_cells // max(1, len(others)))
    rows = [rng.permutation(np.flatnonzero(labels == name))[:each] for name in others]
    return np.sort(np.concatenate(rows)) if rows else np.zeros(0, dtype=np.int64)
