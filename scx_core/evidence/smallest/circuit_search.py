"""Search for the smallest set of nodes that keeps a wanted score: rank, shortest prefix, shrink, exchange.

The steps, in order:
 1. rank: the gradient of the score in every node's gate, averaged along the straight way of all gates from
    0 to 1 (integrated gradients, Simpson's rule): the far start counts as much as the end;
 2. the shortest prefix of this order that reaches the wanted score, measured;
 3. shrink: from a prefix of twice that length, the members that are missed least are dropped in blocks for as
    long as the score holds, with new gradients after each block. It sees what the far ends of step 1 cannot:
    members that do another's work. The smaller of 2 and 3 goes on;
 4. exchange: gradients at the set as it is now say which members are missed least and which outsiders would
    add most. Members are dropped while the score holds; where none can go, one is exchanged for an outsider
    if that raises the score, which makes room for the next drop.
Every decision is taken on measured scores; gradients only propose. Nothing is drawn at random.
Legend: X candidate nodes, N node sets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from scx_core.runs.options import option
from scx_core.runs.progress import Progress, silent

WAY = ((0.0, 1 / 6), (0.5, 4 / 6), (1.0, 1 / 6))  # Simpson's rule: (level of the gates, weight)
STEPS = 6  # sizes measured at once between a size that is too small and one that is enough


@dataclass(frozen=True)
class SearchConfig:
    """How long the search for a smaller set goes on."""

    wider: float = option(2.0, "Shrink from a prefix so many times as long as the shortest", minimum=1.0)
    block: float = option(0.2, "Share of the members that is dropped at once", minimum=0.0, maximum=0.5)
    exchanges: int = option(20, "Rounds of dropping or exchanging a node at most; 0: none", minimum=0)
    proposals: int = option(2, "Members and outsiders that are tried in a round", minimum=1)
    worth: float = option(0.002, "An exchange must raise the kept share by this much", minimum=0.0)


class Problem(Protocol):
    """What is searched. Sets are int arrays of candidate numbers; a score is 0 for none, 1 for all kept."""

    @property
    def n_candidates(self) -> int:
        """X."""

    def scores(self, sets: Sequence[np.ndarray]) -> np.ndarray:
        """The score that each set keeps, [N]: measured."""

    def gains(self, members: np.ndarray, level: float = 0.0) -> np.ndarray:
        """d score / d gate of every candidate, [X]: gates of `members` at 1, all others at `level`."""


class FoundSet(NamedTuple):
    """A set (candidate numbers, ascending) and its score; `reached`: it is at least the wanted one."""

    members: np.ndarray
    score: float
    reached: bool


def rank(problem: Problem) -> np.ndarray:
    """Candidates by integrated gradients, best first, [X]; ties by number."""
    none = np.zeros(0, dtype=np.int64)
    gain_X = np.sum([weight * problem.gains(none, level) for level, weight in WAY], axis=0)
    return np.argsort(-gain_X, kind="stable")


class Prefixes:
    """Scores of the prefixes of an order, each measured once."""

    def __init__(self, problem: Problem, order_X: np.ndarray) -> None:
        self.problem, self.order_X = problem, order_X
        self.score_of: dict[int, float] = {0: 0.0}

    def measure(self, sizes: Sequence[int]) -> list[float]:
        """The scores of these sizes."""
        new = sorted(set(sizes) - set(self.score_of))
        if new:
            found_N = self.problem.scores([self.order_X[:size] for size in new])
            self.score_of |= dict(zip(new, found_N.tolist(), strict=True))
        return [self.score_of[size] for size in sizes]

    def shortest(self, wanted: float, largest: int | None = None) -> FoundSet:
        """The shortest prefix found that reaches the wanted score: sizes double until one does, then the gap
        is filled in. Scores may fall with size, so a shorter one between the measured sizes can be missed.
        Without one up to `largest`, the best of those measured.
        """
        top = min(len(self.order_X), largest or len(self.order_X))
        low, high = 0, 1
        while self.measure([high])[0] < wanted:
            if high >= top:
                best = max(self.score_of, key=lambda size: (self.score_of[size], -size))
                return FoundSet(np.sort(self.order_X[:best]), self.score_of[best], False)
            low, high = high, min(2 * high, top)
        while high - low > 1:
            sizes = np.unique(np.linspace(low, high, STEPS + 2).round().astype(int))[1:].tolist()
            enough = [s for s, score in zip(sizes, self.measure(sizes), strict=True) if score >= wanted]
            high = enough[0]
            low = max([low, *(s for s in sizes if s < high)])
        return FoundSet(np.sort(self.order_X[:high]), self.score_of[high], True)


def shrink(problem: Problem, start: FoundSet, wanted: float, cfg: SearchConfig) -> FoundSet:
    """Drop the members that are missed least, block by block, while the score holds; blocks halve where it
    does not. Never larger than the start; the start itself where it does not reach the wanted score."""
    now, block = start, cfg.block
    while now.reached and len(now.members) > 1:
        order = np.argsort(problem.gains(now.members)[now.members], kind="stable")
        size = max(1, int(len(now.members) * block))
        while size:
            members = np.sort(now.members[order[size:]])
            score = float(problem.scores([members])[0])
            if score >= wanted:
                break
            size //= 2
        if not size:
            break
        block = size / len(now.members)
        now = FoundSet(members, score, True)
    return now


def _best(problem: Problem, sets: Sequence[np.ndarray]) -> tuple[np.ndarray, float]:
    score_N = problem.scores(sets)
    best = int(np.argmax(score_N))
    return sets[best], float(score_N[best])


def _round(problem: Problem, now: FoundSet, wanted: float, cfg: SearchConfig) -> FoundSet | None:
    """A smaller set that still reaches the wanted score, else one as large with a higher score, else None."""
    gain_X = problem.gains(now.members)
    least = now.members[np.argsort(gain_X[now.members], kind="stable")[: cfg.proposals]]
    without = [np.setdiff1d(now.members, [node]) for node in least]
    if len(now.members) > 1:
        members, score = _best(problem, without)
        if score >= wanted:
            return FoundSet(members, score, True)
    gain_X[now.members] = -np.inf
    most = np.argsort(-gain_X, kind="stable")[: cfg.proposals]
    pairs = [(0, 0), *((0, j) for j in range(1, len(most))), *((i, 0) for i in range(1, len(least)))]
    exchanged = [np.union1d(without[i], most[j]) for i, j in pairs if np.isfinite(gain_X[most[j]])]
    if exchanged:
        members, score = _best(problem, exchanged)
        if score >= now.score + cfg.worth:
            return FoundSet(members, score, score >= wanted)
    return None


def exchange(
    problem: Problem, start: FoundSet, wanted: float, cfg: SearchConfig, progress: Progress = silent
) -> FoundSet:
    """Drop and exchange members from a start that reaches the wanted score; never larger, never below it."""
    now = start
    for done in range(cfg.exchanges if start.reached else 0):
        progress(done, cfg.exchanges, f"{len(now.members)} nodes keep {now.score:.3f}")
        better = _round(problem, now, wanted, cfg)
        if better is None:
            break
        now = better
    return now


def solve(
    problem: Problem,
    prefixes: Prefixes,
    wanted: float,
    cfg: SearchConfig,
    known: FoundSet | None = None,
    progress: Progress = silent,
) -> FoundSet:
    """Steps 2 to 4. Where no prefix reaches the wanted score, the best prefix that was measured.

    `known`, a set that was found for more, is shrunk instead of the wide prefix.
    """
    shortest = prefixes.shortest(wanted)
    if not shortest.reached:
        return shortest
    if known is None or known.score < wanted:
        wide = np.sort(prefixes.order_X[: int(len(shortest.members) * cfg.wider)])
        score = float(problem.scores([wide])[0])
        known = FoundSet(wide, score, score >= wanted)
    shrunk = shrink(problem, known, wanted, cfg)
    starts = [shortest, shrunk] if shrunk.reached else [shortest]
    start = min(starts, key=lambda found: (len(found.members), -found.score))
    return exchange(problem, start, wanted, cfg, progress)
