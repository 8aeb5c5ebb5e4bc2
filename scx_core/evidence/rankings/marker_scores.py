"""Rankings held against known markers, and against each other.

All rankings of a type are held to the same candidates: the genes that at least one ranked sentence holds. A
gene that a ranking does not name (its score is not positive) stands behind all that it names. By chance a
ranking has the precision of the share of markers among the candidates, and an AUROC of one half.
Legend: G candidates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.stats import rankdata

from scx_core.atlas.gene_sets.set_readers import open_gene_sets
from scx_core.cells.markers import known_markers, spelling
from scx_core.errors import ScxError
from scx_core.evidence.knockouts.prediction import spearman
from scx_core.statistics.resampling import MeanInterval

FIRST = (5, 10, 20)  # k of the precisions
Z95 = 1.959963984540054


class MarkerScores(NamedTuple):
    """One ranking against the markers of a type: `precision` of its first k candidates by k (as text, for
    JSON), and `auroc` over all of them, with its 95% interval (None without a marker, or nothing else)."""

    precision: dict[str, float]
    auroc: MeanInterval | None


class Agreement(NamedTuple):
    """One ranking beside the circuit's: which share of the circuit's first ten candidates is among its own,
    and the rank correlation over all candidates."""

    overlap: float
    spearman: float


def places_in(ranking: Sequence[str], candidates: Sequence[str]) -> np.ndarray:
    """The place of every candidate, from 1; those that are not ranked share the mean of what is left, [G]."""
    place_of = {gene: place for place, gene in enumerate(ranking)}
    return np.asarray(rankdata([place_of.get(gene, len(place_of)) for gene in candidates]))


def marker_scores(ranking: Sequence[str], candidates: Sequence[str], markers: frozenset[str]) -> MarkerScores:
    """Precision at `FIRST` and AUROC of a ranking over the candidates."""
    among = set(candidates)
    kept = [gene for gene in ranking if gene in among]
    precision = {str(k): sum(gene in markers for gene in kept[:k]) / k for k in FIRST}
    is_marker_G = np.array([gene in markers for gene in candidates])
    return MarkerScores(precision, auroc(-places_in(ranking, candidates), is_marker_G))


def auroc(score_G: np.ndarray, positive_G: np.ndarray) -> MeanInterval | None:
    """Share of pairs of a positive and another in which the positive scores higher, ties half; with the 95%
    interval of DeLong 1988, over positives and others. None where one of the two is missing."""
    n, m = int(positive_G.sum()), int((~positive_G).sum())
    if not n or not m:
        return None
    rank_G = rankdata(score_G)
    above_n = (rank_G[positive_G] - rankdata(score_G[positive_G])) / m
    above_m = 1 - (rank_G[~positive_G] - rankdata(score_G[~positive_G])) / n
    variance = sum(part.var(ddof=1) / len(part) for part in (above_n, above_m) if len(part) > 1)
    reach, mean = Z95 * float(np.sqrt(variance)), float(above_n.mean())
    return MeanInterval(mean, max(0.0, mean - reach), min(1.0, mean + reach))


def agreement(ranking: Sequence[str], circuit: Sequence[str], candidates: Sequence[str]) -> Agreement:
    """A ranking beside the circuit's."""
    among = set(candidates)
    first, own = ([gene for gene in one if gene in among][:10] for one in (circuit, ranking))
    overlap = len(set(first) & set(own)) / max(1, len(first))
    return Agreement(overlap, spearman(places_in(ranking, candidates), places_in(circuit, candidates)))


def marker_lists(labels: Sequence[str], source: str | Path, organism: str) -> dict[str, frozenset[str]]:
    """Markers of each type from a marker table or GMT file: of sets whose names mean the type, by spelling or
    by the names of it that are known here. Types without any are left out.

    Raises ScxError for a file that cannot be read, or without a set for any of the types.
    """
    sets = open_gene_sets(source, organism).sets
    found: dict[str, frozenset[str]] = {}
    for label in labels:
        genes = [gene for one in sets if _same_type(one.name, label) for gene in one.genes]
        if genes:
            found[label] = frozenset(genes)
    if not found:
        names = ", ".join(one.name for one in sets[:8])
        raise ScxError(
            f"{Path(source).name} has no set for any of the types ({', '.join(map(str, labels[:6]))}).",
            f"Name its sets as the types; it has: {names} …",
        )
    return found


def _same_type(name: str, label: str) -> bool:
    known, wanted = known_markers(name), known_markers(label)
    if known is not None and wanted is not None:
        return known.cell_type == wanted.cell_type
    return spelling(name) == spelling(label)


def markers_of(label: str, lists: Mapping[str, frozenset[str]] | None) -> frozenset[str] | None:
    """The markers of a type: of `lists` where they are given, else those that are known here; None: none."""
    if lists is not None:
        return lists.get(label)
    known = known_markers(label)
    return known.genes if known else None
