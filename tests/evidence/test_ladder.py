"""The ladder: a level counts only above reached ones, and each says reached, not reached or not tested."""

from __future__ import annotations

import numpy as np
import pytest

from scx_core.evidence.by_type.prediction import with_rivals
from scx_core.evidence.ladder import (
    CLAIMS,
    IN_FLOAT64,
    KEY,
    Ladder,
    Level,
    accounts,
    agrees,
    causes,
    holds_still,
    ladder_from,
    ladder_words,
    not_tested,
    predicts,
    repeats,
    with_ladder,
)
from scx_core.figures.captions import caption
from tests.figures.fakes import consensus_circuit


def _ladder(*statuses: str) -> Ladder:
    return Ladder(tuple(Level(i, CLAIMS[i - 1], status, "") for i, status in enumerate(statuses, 1)))


YES, NO, OPEN = "reached", "not reached", "not tested"


@pytest.mark.parametrize(
    ("statuses", "far"),
    [
        ((YES,) * 6, 6),
        ((YES, YES, NO, YES, YES, YES), 2),
        ((YES, OPEN, YES, YES, YES, YES), 1),
        ((NO, YES, YES, YES, YES, YES), 0),
    ],
)
def test_a_level_counts_only_when_all_lower_ones_are_reached(statuses, far):
    ladder = _ladder(*statuses)
    assert ladder.got_as_far == far
    assert (f"level {far} of 6" in ladder.words) == (far > 0)
    if far < 6:
        assert f"level {far + 1} {statuses[far]}" in ladder.words


def test_a_ladder_comes_back_from_its_json_and_nothing_else_is_one():
    ladder = _ladder(YES, YES, NO, OPEN, OPEN, YES)
    assert ladder_from(ladder.to_json()) == ladder
    broken = ladder.to_json()
    broken["levels"][2]["status"] = "surely"
    for data in (None, 3, {}, {"levels": []}, {"levels": [1]}, broken):
        assert ladder_from(data) is None


def test_the_caption_says_how_far_it_got_and_else_what_was_not_tested():
    circuit = consensus_circuit()
    assert "level 1 of 6 (exact account of the frozen model, to 3e-06); not tested beyond it" in caption(
        circuit
    )
    measured = with_ladder(circuit, _ladder(YES, YES, YES, NO, OPEN, OPEN))
    assert "got as far as level 3 of 6 (sufficient and necessary against matched controls)" in caption(
        measured
    )
    assert "level 4 not reached" in caption(measured)
    loose = circuit._replace(accounting={"max_relative_error": 0.02})
    assert "not even level 1" in ladder_words(loose)
    forged = circuit._replace(provenance=circuit.provenance | {KEY: {"levels": "<script>"}})
    assert "not tested beyond it" in ladder_words(forged)


def _span(mean: float, half: float = 0.1) -> dict:
    return {"mean": mean, "low": mean - half, "high": mean + half}


def _prediction(rank: float, sign: float, ahead: float, p: float) -> dict:
    side = {"spearman": _span(rank), "sign": _span(sign)}
    rival = {"spearman": _span(rank - ahead), "sign": _span(0.5)}
    return {
        "circuit": side,
        "gradient": rival,
        "ahead": _span(ahead),
        "p": p,
        "strongest": 20,
        "n": 8,
        "units": "cells",
    }


def test_prediction_must_be_better_than_nothing_and_not_behind_the_gradient():
    assert predicts(_prediction(0.4, 0.7, 0.2, 0.01)).status == YES
    assert predicts(_prediction(0.05, 0.7, 0.2, 0.01)).status == NO  # the interval holds 0
    assert predicts(_prediction(0.4, 0.55, 0.2, 0.01)).status == NO  # signs no better than a coin
    assert predicts(_prediction(0.4, 0.7, -0.2, 0.01)).status == NO
    assert predicts(_prediction(0.4, 0.7, -0.2, 0.4)).status == YES  # no certain difference


def _rival(name: str, rank: float, ahead: float, p: float) -> dict:
    return {"name": name, "spearman": _span(rank), "sign": _span(0.6), "ahead": _span(ahead), "p": p}


def test_the_rival_of_a_prediction_is_the_strongest_that_was_measured():
    weak, strong = _rival("gradient × input", -0.1, 0.5, 0.01), _rival("the place", 0.6, -0.2, 0.01)
    found = predicts(_prediction(0.4, 0.7, 0.5, 0.01) | {"rivals": [weak, strong]})
    assert found.status == NO
    assert (
        "certainly behind the place (0.60), the strongest of 2 rivals (gradient × input −0.10)" in found.words
    )
    assert {figure.rival for figure in found.figures} == {"the place"}
    level = predicts(_prediction(0.4, 0.7, 0.5, 0.01) | {"rivals": [weak, strong | {"p": 0.3}]})
    assert level.status == YES and "no certain difference from the place" in level.words


def test_rivals_are_made_from_the_columns_of_a_record():
    rng, n, genes = np.random.default_rng(0), 8, 30
    gap = rng.normal(size=n * genes)
    columns = {
        "row": np.repeat(np.arange(n), genes).tolist(),
        "rank": np.tile(np.arange(1, genes + 1), n).tolist(),
        "gap": gap.tolist(),
        "circuit": (gap + rng.normal(size=n * genes)).tolist(),
        "gradient": rng.normal(size=n * genes).tolist(),
        "differential": (gap + 0.1 * rng.normal(size=n * genes)).tolist(),
    }
    found = with_rivals(_prediction(0.6, 0.8, 0.6, 0.01), columns)
    assert found["rivals"][0]["name"] == "differential expression (t-test)"
    assert len(found["rivals"]) == 3
    assert predicts(found).status == NO
    assert with_rivals(found, columns) == found
    without = {name: one for name, one in columns.items() if name != "differential"}
    assert predicts(with_rivals(_prediction(0.6, 0.8, 0.6, 0.01), without)).status == YES


def _rankings(ahead: float, q: float) -> dict:
    own = {"name": "circuit", "genes": ["A", "B"], "drop": _span(2.0)}
    control = {"name": "random", "genes": [], "drop": _span(2.0 - ahead), "ahead": _span(ahead), "q": q}
    return {"rankings": [own, control], "n": 9, "units": "cells"}


def _curves(*certain: bool) -> dict:
    rows = [
        {"way": way, "reference": "mean", "area": _span(0.6), "random": _span(0.2), "certain": yes}
        for way, yes in zip(("sufficiency", "necessity"), certain, strict=True)
    ]
    return {
        "curves": [*rows, {"way": "necessity", "reference": "zero", "certain": False}],
        "n": 5,
        "units": "cells",
    }


def test_causes_need_joint_knockouts_and_both_curves():
    assert causes(_rankings(1.5, 0.01), _curves(True, True)).status == YES
    assert causes(_rankings(1.5, 0.2), _curves(True, True)).status == NO
    found = causes(_rankings(1.5, 0.01), _curves(True, False))
    assert found.status == NO and "NOT: necessity" in found.words and len(found.figures) == 3
    assert causes(_rankings(1.5, 0.01), None).status == OPEN
    assert causes(_rankings(-1.5, 0.01), None).status == NO


def test_how_much_is_kept_and_what_needs_no_model_are_said():
    rankings, curves = _rankings(1.5, 0.01), _curves(True, True)
    same = {"name": "t-test", "genes": ["A"], "drop": _span(2.1), "ahead": _span(-0.1), "q": 0.76}
    rankings["rankings"].append(same)
    curves["curves"][0]["points"] = [{"size": 45, "share": 0.48, "low": 0.38, "high": 0.51}]
    words = causes(rankings, curves).words
    assert "(all 45 features keep 48% [38%, 51%], partly: 80% is asked of a smallest circuit)" in words
    assert (
        "from genes of differential expression (t-test), which needs no model (2.00 against 2.10, q 0.76)"
        in words
    )
    curves["curves"][0]["points"][-1]["share"] = 0.9
    same |= {"drop": _span(1.0), "ahead": _span(1.0), "q": 0.01}
    words = causes(rankings, curves).words
    assert (
        "partly" not in words
        and "more than genes of differential expression (t-test) (2.00 against 1.00" in words
    )


def _part(what: str, mean: float | None) -> dict:
    index = None if mean is None else _span(mean)
    return {"what": what, "jaccard": index, "chance": 0.2, "n": 9, "units": "cells", "why": "nobody asked"}


def test_stability_needs_cells_ties_and_seeds_and_says_what_was_not_asked():
    whole = [_part("cells", 0.8), _part("donors", None), _part("ties", 0.9), _part("transcoder seeds", 0.7)]
    assert holds_still(whole).status == YES
    assert "donors: nobody asked" in holds_still(whole).words
    assert holds_still([*whole[:3], _part("transcoder seeds", None)]).status == OPEN
    assert holds_still([*whole[:3], _part("transcoder seeds", 0.3)]).status == NO


def test_other_levels():
    assert accounts({"max_relative_error": 1e-6}, 3).status == YES
    assert accounts({"max_relative_error": 1e-2}, 3).status == accounts({}, 3).status == NO
    cancels = {"max_relative_error": 3e-4, IN_FLOAT64: 1e-13}
    assert accounts(cancels, 3).status == YES and "3.0e-04" in accounts(cancels, 3).words
    assert accounts(cancels | {IN_FLOAT64: 2e-4}, 3).status == NO
    assert repeats([]) == not_tested(5, repeats([]).words) and agrees(None).status == OPEN
    overlap = {"shared": 9, "top": 20, "second": "another", "expected": 2.0, "p": 0.001, "n": 20}
    assert repeats([overlap]).status == YES and repeats([overlap | {"p": 0.2}]).status == NO
    assert repeats([overlap | {"p": 0.03}, overlap | {"p": 0.4}]).status == NO, "two studies, two chances"
    counts = {
        "circuit": 6,
        "genes": 10,
        "chance": 1.0,
        "q": 0.01,
        "random": 2.0,
        "differential": 7,
        "expressed": 4,
    }
    counts["interval"] = [0.3, 0.8]
    assert agrees(counts).status == YES
    assert agrees(counts | {"q": 0.2}).status == agrees(counts | {"random": 7.0}).status == NO
    assert agrees(counts | {"expressed": 8}).status == NO, "expression alone names more"
    assert agrees(counts | {"circuit": 4, "differential": 9}).status == NO, "certainly fewer than DE"
    level = agrees(counts | {"expressed": 6})
    assert level.status == YES and "no more than differential expression" in level.words
    assert level.figures[0].rival == "differential expression" and level.figures[0].beside == 0.7


SCREEN = {
    "data": "screen",
    "targets": 13,
    "mean": _span(0.3),
    "p": 0.004,
    "same": 60,
    "signs": 90,
    "says": "s",
}
SCREEN["rivals"] = [{"name": "co-expression", "mean": 0.1, "behind": _span(0.2)}]
EDGES = {
    "enough": True,
    "relation": "direct",
    "types": 6,
    "hits": 40,
    "pairs": 500,
    "expected": 12.0,
    "says": "e",
}
EDGES |= {"fold": 3.3, "low": 2.0, "high": 5.0, "p": 0.002, "coexpression": 2.1}


def test_measured_screens_and_curated_edges_need_chance_and_a_simpler_rival_behind():
    assert agrees(None, [SCREEN]).status == agrees(None, [], [EDGES]).status == YES
    assert agrees(None, [SCREEN | {"p": 0.2}]).status == NO
    ahead = [{"name": "co-expression", "mean": 0.6, "behind": _span(-0.3)}]
    found = agrees(None, [SCREEN | {"rivals": ahead}])
    assert found.status == NO and "co-expression 0.60" in found.words
    assert agrees(None, [], [EDGES | {"coexpression": 4.0}]).status == NO
    few = {"enough": False, "says": "two edges", "expected": 1.0}
    assert agrees(None, [], [few]).status == OPEN and "too few" in agrees(None, [], [few]).words


def test_of_several_sources_one_is_enough_and_each_is_a_test():
    weak = EDGES | {"p": 0.03}
    assert agrees(None, [], [weak]).status == YES
    both = agrees(None, [SCREEN | {"p": 0.6}], [weak])
    assert both.status == NO and both.words.count("NOT: ") == 2 and len(both.figures) == 2
    assert agrees(None, [SCREEN], [weak]).status == YES
