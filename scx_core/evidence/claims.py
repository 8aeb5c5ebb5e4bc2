"""What rankings and smallest circuits let one say: each sentence with figure, rival and interval."""

from __future__ import annotations

from scx_core.evidence.rankings.rankings import Rankings, TypeRankings
from scx_core.evidence.smallest.measured_share import FAINT_SHARE
from scx_core.evidence.smallest.smallest_circuit import Smallest
from scx_core.statistics.claim import Claim


def ranking_claims(found: Rankings) -> list[Claim]:
    """That the circuit's genes matter more to the model than each rival's, type by type: by joint knock-outs,
    and by known markers. `interval` is that of the figure; whether it holds is decided cell by cell."""
    return [claim for held in found.types for claim in (*_knock_outs(held), *_markers(held))]


def _knock_outs(held: TypeRankings) -> list[Claim]:
    own = held.of("circuit")
    return [
        Claim(
            f"Without the circuit's {len(own.genes)} strongest genes the model is less sure of {held.answer} "
            f"than without as many by another ranking: {rival.words}.",
            own.drop.mean,
            rival.drop.mean,
            rival.words,
            (own.drop.low, own.drop.high),
            held.n,
            rival.verdict == "circuit",
        )
        for rival in held.rankings
        if rival.ahead is not None
    ]


def _markers(held: TypeRankings) -> list[Claim]:
    """None where the type has no list of markers. A count has no interval."""
    own = held.of("circuit").markers
    return [
        Claim(
            f"More of the circuit's strongest genes are known markers of {held.label} than of as many by "
            f"another ranking: {rival.words}.",
            len(own),
            len(rival.markers),
            rival.words,
            None,
            held.n_ranked,
            len(own) > len(rival.markers),
        )
        for rival in held.rankings
        if rival.name in ("t-test", "expression") and own is not None and rival.markers is not None
    ]


def smallest_claims(found: Smallest) -> list[Claim]:
    """That features make enough of the target to speak of shares, that the set keeps what was asked for, and
    that it keeps more than random features like it. One cell verifies nothing: no claims."""
    ours, random, ahead = found.sets["ours"], found.sets["random"], found.ahead
    if ours.unseen is None or ours.low is None or ours.high is None:
        return []
    n, span = len(found.cells["unseen"]), (ours.low, ours.high)
    added = found.added
    within = None if added.low is None or added.high is None else (added.low, added.high)
    return [
        Claim(
            f"The features make enough of {found.target} for a share of it to say something.",
            added.mean,
            FAINT_SHARE * abs(found.logits["full"]),
            f"{FAINT_SHARE:.0%} of the target",
            within,
            n,
            not found.faint and within is not None and within[0] > 0,
        ),
        Claim(
            f"{ours.size} features keep {found.wanted:.0%} of what all features add to {found.target}, in "
            "cells that the search did not see.",
            ours.unseen,
            found.wanted,
            "the share asked for",
            span,
            n,
            ours.unseen >= found.wanted and not found.faint,
        ),
        Claim(
            f"They keep more than as many random features of the same layers and activation "
            f"({found.target}).",
            ours.unseen,
            random.unseen,
            f"mean of {ahead['draws']:.0f} random sets",
            span,
            n,
            ahead["low"] is not None and ahead["low"] > 0 and not found.faint,
        ),
    ]
