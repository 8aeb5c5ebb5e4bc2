"""Intervals that cover, donors that are resampled, and nothing found where nothing differs."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from scx_core.circuits.circuit import Node, Target
from scx_core.circuits.consensus import Merged
from scx_core.circuits.consensus import merged_node as merged
from scx_core.circuits.difference import difference
from scx_core.circuits.feature_names import ByPlace
from scx_core.circuits.words.wording import statistics_sentences
from scx_core.statistics import resampling
from scx_core.statistics.hypothesis_tests import Q, null_split, p_values, q_values, smallest_p
from scx_core.statistics.resampling import held_intervals, one_group, two_groups

TARGET = Target("B less others", "B", None, {5: 1.0})
COLUMNS = 1000


def values(kind: str, n: int, seed: int = 0, columns: int = COLUMNS) -> np.ndarray:
    """Columns of mean 0: normal, skewed, or 0 in most cells as a gene's effect is."""
    rng = np.random.default_rng(seed)
    if kind == "normal":
        return rng.normal(size=(n, columns))
    if kind == "skewed":
        return rng.lognormal(size=(n, columns)) - np.exp(0.5)
    return (rng.random((n, columns)) < 0.5) * rng.normal(1.0, 0.5, (n, columns)) - 0.5


def covered(found) -> float:
    return float(((found.low <= 0) & (found.high >= 0)).mean())


def percentile(sampling, value_CX) -> float:
    drawn_BC = sampling.count_BU[:, sampling.unit_C] / len(value_CX)  # one group, a cell a unit
    low, high = np.percentile(drawn_BC @ value_CX, [2.5, 97.5], axis=0)
    return float(((low <= 0) & (high >= 0)).mean())


@pytest.mark.parametrize(
    ("kind", "n", "least"),
    [
        ("normal", 8, 0.93),
        ("normal", 30, 0.93),
        ("skewed", 8, 0.87),
        ("skewed", 30, 0.90),
        ("rare", 30, 0.93),
    ],
)
def test_intervals_cover_where_percentile_ones_do_not(kind, n, least):
    value_CX, sampling = values(kind, n), one_group(n, 0)
    share = covered(sampling.of(value_CX, wider=True))
    assert share >= least
    assert share >= percentile(sampling, value_CX) + (0.03 if n == 8 else 0.0)


def test_a_difference_is_covered_too():
    value_CX = values("normal", 16)
    assert covered(two_groups(8, 8, 0).of(value_CX)) >= 0.93
    assert covered(two_groups(8, 8, 0, paired=True).of(value_CX)) >= 0.93


@pytest.mark.parametrize("n_donors", [2, 3, 4, 8])
def test_donors_are_resampled_and_so_the_interval_covers(n_donors):
    donor_C = np.repeat(np.arange(n_donors), 6)
    of_donor = np.random.default_rng(5).normal(0, 1.0, (n_donors, COLUMNS))
    value_CX = values("normal", len(donor_C)) + of_donor[donor_C]
    over = {who: one_group(len(donor_C), 0, names) for who, names in (("donors", donor_C), ("cells", None))}
    found = {who: sampling.of(value_CX) for who, sampling in over.items()}
    assert [over[who].kind for who in over] == ["donors", "cells"]
    assert over["donors"].note == f"over {n_donors} donors"
    assert "too narrow" in over["cells"].note
    width = {who: np.median(one.high - one.low) for who, one in found.items()}
    assert width["donors"] > 1.5 * width["cells"]
    assert covered(found["donors"]) >= 0.93
    assert covered(found["cells"]) < 0.85


def test_means_over_held_cells_cover_and_widen_with_donors():
    donor_C = np.repeat(np.arange(8), 5)
    value_CX = values("normal", 40) + np.random.default_rng(2).normal(0, 1.0, (8, COLUMNS))[donor_C]
    value_CX[np.random.default_rng(3).random(value_CX.shape) < 0.4] = np.nan
    mean_X, low_X, high_X = held_intervals(one_group(40, 0, donor_C), value_CX)
    assert mean_X == pytest.approx(np.nanmean(value_CX, 0))
    assert ((low_X <= 0) & (high_X >= 0)).mean() >= 0.92
    _, low, high = held_intervals(one_group(40, 0), value_CX)
    assert ((low <= 0) & (high >= 0)).mean() < 0.85
    value_CX[:, 0], value_CX[1:, 1], value_CX[:, 2] = np.nan, np.nan, 3.0
    mean_X, low_X, high_X = held_intervals(one_group(40, 0), value_CX[:, :3])
    assert np.isnan([mean_X[0], low_X[0], low_X[1], high_X[1]]).all()
    assert (mean_X[2], low_X[2], high_X[2]) == (3.0, 3.0, 3.0)
    two = held_intervals(two_groups(20, 20, 0), values("normal", 40))
    assert ((two[1] <= 0) & (two[2] >= 0)).mean() >= 0.93


def test_one_donor_is_no_sample_of_donors():
    found = one_group(6, 0, ["a"] * 6)
    assert (found.kind, found.units_G) == ("cells", (6,))
    assert "one donor only" in found.note
    side = two_groups(3, 4, 0, donors=["a"] * 3 + ["b", "b", "c", "c"])
    assert side.kind == "cells"
    assert "one side is of one donor only" in side.note


@pytest.mark.parametrize("crossed", [True, False])
def test_p_over_donors_is_calibrated_where_p_over_cells_is_not(crossed):
    donor_C = np.repeat(np.arange(8), 5)
    both_C = np.concatenate([donor_C, donor_C if crossed else donor_C + 8])
    of_donor = np.random.default_rng(3).normal(0, 1.0, (2, 16, COLUMNS))  # a type differs from donor to donor
    side_C = np.repeat([0, 1], len(donor_C))
    value_CX = values("normal", len(both_C)) + of_donor[side_C, both_C]
    sampling = two_groups(40, 40, 0, donors=both_C)
    assert sampling.crossed == crossed
    assert (p_values(sampling, value_CX) < 0.05).mean() < 0.07
    assert (p_values(two_groups(40, 40, 0), value_CX) < 0.05).mean() > 0.2


@pytest.mark.parametrize("kind", ["normal", "skewed", "rare"])
@pytest.mark.parametrize("n", [5, 30])
def test_p_is_calibrated_over_cells(kind, n):
    value_CX = values(kind, 2 * n)
    samplings = [(two_groups(n, n, 0), value_CX), (two_groups(n, n, 0, paired=True), value_CX)]
    samplings += [(one_group(n, 0), value_CX[:n])] if kind == "normal" else []
    for sampling, value in samplings:
        p_X = p_values(sampling, value)
        assert p_X.min() >= 0.999 * smallest_p(sampling) or p_X.min() >= 0.2 * smallest_p(sampling)
        assert (p_X < 0.05).mean() < 0.05 + 3 * np.sqrt(0.05 * 0.95 / COLUMNS)
        assert (p_X < 0.01).mean() < 0.01 + 4 * np.sqrt(0.01 * 0.99 / COLUMNS)


def test_p_is_that_of_all_dealings():
    value_CX, first_C = values("normal", 8, columns=6), np.repeat([True, False], 4)
    value_CX[:4, :2] += 2.0
    exact = stats.permutation_test(
        (value_CX[first_C], value_CX[~first_C]),
        lambda a, b, axis: abs(stats.ttest_ind(a, b, axis=axis, equal_var=False).statistic),
        vectorized=True,
        alternative="greater",
        n_resamples=np.inf,
    ).pvalue
    assert p_values(two_groups(4, 4, 0), value_CX) == pytest.approx(exact, abs=0.06)


def test_what_differs_is_found_and_equal_columns_are_not():
    value_CX = values("rare", 60, columns=600)
    value_CX[:30, :40] += 1.0
    value_CX[:, 599] = 0.25
    q_X = q_values(p_values(two_groups(30, 30, 0), value_CX))
    assert (q_X[:40] < Q).mean() > 0.9
    assert (q_X[40:] < Q).sum() <= 6
    assert q_X[599] == 1.0


def test_q_is_scipys():
    p_X = np.random.default_rng(0).random(200) ** 3
    assert q_values(p_X) == pytest.approx(stats.false_discovery_control(p_X, method="bh"))
    assert len(q_values(np.zeros(0))) == 0


def cells(n: int, seed: int, shift: float = 0.0, genes: int = 655) -> list[Merged]:
    """Merged circuits of one type: genes that most cells hold, `shift` on the first thirty."""
    rng = np.random.default_rng(seed)
    nodes = {name: merged(Node(name, "feature", 1, None, i)) for i, name in enumerate(["f:1:0", "f:1:1"])}
    nodes |= {"target": Node("target", "target"), "bias": Node("bias", "bias")}
    edge_MM = np.zeros((4, 4), dtype=bool)
    edge_MM[2, [0, 1, 3]] = True
    out = []
    for _ in range(n):
        effect_G = rng.normal(0.2, 0.3, genes) + shift * (np.arange(genes) < 30)
        held = {f"G{i}": (float(effect_G[i]), float(i)) for i in np.flatnonzero(rng.random(genes) < 0.8)}
        weight_MM = rng.normal(0.5, 0.2, (4, 4)) + shift
        value_M3 = rng.normal(0.5, 0.2, (4, 3)) + shift
        rest = {"value": 1.0, "scores": {"called": 1.0}, "max_relative_error": 1e-7}
        nowhere = ByPlace(("f:1:0", "f:1:1"), (), np.ones((2, 2)))
        places = dict.fromkeys(("active", "stands", "added"), nowhere)
        out.append(
            Merged(
                nodes=dict(nodes), value_M3=value_M3, weight_MM=weight_MM, edge_MM=edge_MM, genes=held,
                **places, **rest,
            )
        )  # fmt: skip
    return out


def between(first: list[Merged], second: list[Merged], donors=None):
    options = {"same_set": True, "paired": False, "min_share": 0.3, "seed": 0, "provenance": {}}
    return difference(("A", "B"), first, second, (TARGET, TARGET), donors=donors, **options).difference


@pytest.mark.parametrize("donors", [None, np.repeat(np.arange(6), 5)])
def test_halves_of_one_type_do_not_differ(donors):
    """655 genes that go together, as those of a cell do, skewed and mostly absent; donors that differ."""
    shares = []
    for seed in range(4):
        rng = np.random.default_rng(seed)
        state_C5, loads_5G = rng.normal(size=(30, 5)), rng.normal(size=(5, 655))
        value_CG = np.exp(state_C5 @ loads_5G / 3) * (rng.random((30, 655)) < 0.5)
        if donors is not None:
            value_CG *= np.exp(rng.normal(size=(6, 655)))[donors]
        split = null_split(value_CG, seed, donors, splits=5)
        shares += [count / split.tested for count in split.found]
    assert np.mean(shares) <= 0.005
    assert np.mean(np.array(shares) > 0.05) <= 0.1


def test_halves_of_one_type_do_not_differ_in_the_circuits_own_words():
    both = cells(20, 3, genes=200)
    found = between(both[:10], both[10:])
    assert all(gene.q >= Q for gene in found.genes)
    assert all(edge.q >= Q for edge in found.edges)
    assert statistics_sentences(found)[0].startswith("0 of 200 genes differ")


def test_two_types_differ_beside_halves_that_do_not():
    found = between(cells(20, 0, 1.0, 300), cells(20, 1, 0.0, 300))
    called = {gene.gene for gene in found.genes if gene.q < Q}
    assert len(called & {f"G{i}" for i in range(30)}) >= 25
    record = found.provenance["statistics"]["families"]
    assert record["genes"]["found"] == len(called)
    assert record["genes"]["null_split"]["mean"] <= 0.05 * record["genes"]["tested"]
    assert [edge.q < Q for edge in found.edges] == [True] * 3
    assert "random halves" in statistics_sentences(found)[0]
    assert "no donors known" in " ".join(statistics_sentences(found))


def test_too_few_cells_are_said_to_be_too_few():
    found = between(cells(3, 0, 5.0, 90), cells(3, 1, 0.0, 90))
    assert not [gene for gene in found.genes if gene.q < Q]
    assert "too few" in statistics_sentences(found)[-1]
    assert "are few" in statistics_sentences(between(cells(5, 0, 0.5, 90), cells(5, 1, 0.0, 90)))[-1]
    assert null_split(np.zeros((3, 5)), 0) is None


def test_the_record_of_a_stranger_breaks_nothing():
    found = between(cells(4, 0, genes=9), cells(4, 1, genes=9))
    for bad in (3, {"families": {"genes": 4}, "note": "x"}, {"families": {"genes": {"found": "<b>"}}}):
        assert statistics_sentences(found._replace(provenance={"statistics": bad})) == []


@pytest.mark.parametrize("sampling", [one_group(9, 3), two_groups(9, 7, 3), two_groups(8, 8, 3, paired=True)])
def test_columns_are_independent_of_those_beside_them(sampling, monkeypatch):
    value_CX = values("rare", len(sampling.weight_C), columns=300)
    all_of = sampling.of(value_CX)
    for size in (37, 5000):
        monkeypatch.setattr(resampling, "COLUMNS", size)
        for found, wanted in zip(sampling.of(value_CX), all_of, strict=True):
            np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-14)
    some_X = np.arange(0, 300, 7)
    for found, wanted in zip(sampling.of(value_CX[:, some_X]), all_of, strict=True):
        np.testing.assert_allclose(found, wanted[some_X], rtol=1e-12, atol=1e-14)
