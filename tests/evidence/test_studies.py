"""Studies: places of genes, knock-outs beside genes of the same rank, and rows named by model and rivals."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from scx_core.atlas.match.common_cells import mlp_streams
from scx_core.circuits import make_tracer
from scx_core.evidence.studies.gene_ranks import gene_places, places_of
from scx_core.evidence.studies.matched_knockouts import matched_knockouts
from scx_core.evidence.studies.pools import LOGISTIC, MODEL, NEAREST, nearest_profiles, rate_rows
from scx_core.evidence.studies.told_features import answers_without, cell_means, held_stand_ins, told_by
from scx_core.evidence.studies.top_overlap import (
    ALL_NAMES,
    LIKE_NAMES,
    NamedEffects,
    effects_of,
    overlap,
)
from scx_core.language import predicted, replaced_mlps, score_labels
from scx_core.statistics.resampling import one_group
from tests.tiny import random_set, tiny_language, tiny_table

LABEL = "Dendritic"


@pytest.fixture(scope="module")
def tracer(tmp_path_factory):
    lm = tiny_language(tmp_path_factory.mktemp("model"))
    return make_tracer(lm, random_set(lm, "jumprelu", skip=True), tiny_table(30))


def test_places_follow_the_mean_effect_and_their_intervals_the_cells():
    rng = np.random.default_rng(0)
    cells = [
        {"STRONG": (5 + rng.normal(), 9), "WEAK": (rng.normal(), 1), "ALIKE": (rng.normal(), 2)}
        for _ in range(40)
    ]
    cells[0]["RARE"] = (2.0, 3)
    found = places_of(cells, one_group(len(cells), 0))
    strong, rare = found.of("STRONG"), found.of("RARE")
    assert (strong.place, strong.place_low, strong.place_high) == (1, 1, 1)
    assert strong.effect.mean == pytest.approx(np.mean([cell["STRONG"][0] for cell in cells]))
    assert rare.held == pytest.approx(1 / 40) and rare.rank == 3 and rare.effect.mean == pytest.approx(0.05)
    weak = found.of("WEAK")
    assert weak.place_low < weak.place_high  # two genes that nothing tells apart
    assert found.top(10) == [one.gene for one in found.genes if one.effect.mean > 0]
    assert found.of("ABSENT") is None


def test_places_over_few_donors_are_those_at_the_ends_of_the_effects_students_interval():
    """Three donors with means 1, 2 and 3: the effect of A is 2 ± 2.48, whatever is drawn."""
    donors = ["a", "b", "c"] * 4
    cells = [{"A": (1.0 + "abc".index(one), 1), "B": (4.0, 2), "C": (0.0, 3)} for one in donors]
    found = places_of(cells, one_group(len(cells), 0, donors))
    assert found.units == "donors"
    assert (found.of("A").place, found.of("A").place_low, found.of("A").place_high) == (2, 1, 3)
    assert (found.of("B").place_low, found.of("B").place_high) == (1, 1)


def test_places_are_those_of_the_traced_effects(tracer):
    rows = np.flatnonzero(tracer.table.labels == LABEL)[:4]
    found = gene_places(tracer, rows, LABEL)
    effects = [{gene.gene: gene.effect for gene in tracer.gene_effects(int(row), LABEL)} for row in rows]
    first = found.genes[0]
    assert first.effect.mean == pytest.approx(np.mean([cell.get(first.gene, 0.0) for cell in effects]))


def test_a_knockout_stands_beside_genes_of_its_rank(tracer):
    rows = np.flatnonzero(tracer.table.labels == LABEL)[:5]
    cells = tracer.encode(rows)
    gene = cells[0].genes[2]
    held = [int(row) for row, cell in zip(rows, cells, strict=True) if gene in cell.genes]
    found = matched_knockouts(
        tracer, rows, LABEL, {"all": None}, [gene, "NO SUCH GENE"], most=3, draws=2, seed=0
    )
    assert [(one.gene, one.way) for one in found][:2] == [(gene, "text"), (gene, "gap")]
    assert found[0].n == min(3, len(held))
    assert found[0].ahead.mean == pytest.approx(found[0].lost.mean - found[0].matched.mean)
    assert found[2].n == 0 and found[2].lost is None and found[2].q is None
    assert all(one.q >= one.p for one in found[:2])


def test_rows_are_named_by_model_and_rivals(tracer):
    table = tracer.table
    labels = sorted(set(table.labels.tolist()))
    same = {label: (label,) for label in labels}
    profile_rows = np.array([np.flatnonzero(table.labels == label)[0] for label in labels])
    found = {one.name: one for one in rate_rows(tracer, table, np.arange(30), same, (table, profile_rows))}
    given = np.array(tracer.predict(np.arange(30)))
    assert found[MODEL].right == int((given == table.labels).sum())
    assert found[LOGISTIC].n == found[NEAREST].n == 30
    both = found[LOGISTIC].right - found[MODEL].right
    assert found[LOGISTIC].rival_only - found[LOGISTIC].model_only == both
    assert sum(k for k, _ in found[NEAREST].of_type.values()) == found[NEAREST].right
    own = nearest_profiles(table, profile_rows, table, profile_rows)
    assert own.tolist() == labels  # a profile is nearest to itself


def test_a_shared_top_stands_out_and_a_permuted_one_does_not():
    names = [f"G{k}" for k in range(400)]
    rng = np.random.default_rng(0)
    effect, level = rng.normal(size=400), dict(zip(names, rng.uniform(1, 100, 400), strict=True))
    one = NamedEffects(dict(zip(names, effect, strict=True)), level, 20)
    alike = NamedEffects(dict(zip(names, effect + 0.1 * rng.normal(size=400), strict=True)), level, 20)
    common, n_names, expected, p = overlap(one, alike, 20, 2000, 0)
    assert n_names == 400 and len(common) >= 15
    assert expected[ALL_NAMES] == pytest.approx(20 * 20 / 400, abs=0.1)
    assert max(p.values()) < 0.01
    at_chance = [
        overlap(
            one, NamedEffects(dict(zip(rng.permutation(names), effect, strict=True)), level, 20), 20, 500, s
        )
        for s in range(60)
    ]
    for null in (ALL_NAMES, LIKE_NAMES):
        assert np.mean([found[3][null] < 0.05 for found in at_chance]) <= 0.15


def test_names_that_are_named_everywhere_are_no_evidence_within_their_level():
    names = [f"G{k}" for k in range(200)]
    level = {name: float(k) for k, name in enumerate(names)}
    rng = np.random.default_rng(0)
    high = [{name: rng.uniform(1, 2) if k < 20 else -1.0 for k, name in enumerate(names)} for _ in range(2)]
    _, _, _, p = overlap(*(NamedEffects(effect, level, 9) for effect in high), 20, 1000, 0)
    assert p[ALL_NAMES] < 0.01 < 0.9 < p[LIKE_NAMES]


def test_effects_of_cells_are_those_that_a_trace_gives(tracer):
    rows = np.flatnonzero(tracer.table.labels == LABEL)[:3]
    found = effects_of(tracer, rows, LABEL)
    traced = [{gene.gene: gene.effect for gene in tracer.gene_effects(int(row), LABEL)} for row in rows]
    gene = next(iter(found.genes.effect))
    assert found.genes.effect[gene] == pytest.approx(np.mean([cell.get(gene, 0.0) for cell in traced]))
    assert all(0 < share <= 1 for share in found.features.level.values())
    assert set(found.expressed) == set(found.genes.effect)


def test_a_feature_that_tells_the_study_is_found_and_a_permuted_one_is_not():
    rng, n = np.random.default_rng(0), 60
    type_C, group_C = np.repeat(["a", "b"], n), np.tile(np.repeat(["x", "y"], n // 2), 2)
    value_CF = rng.normal(2, 0.1, (2 * n, 12))
    value_CF[:, 4] += 1.0 * (group_C == "y")
    value_CF[:, 5] += 5.0 * (type_C == "b")  # the type, not the study
    found = told_by("study", value_CF, group_C, type_C, 6, np.abs(value_CF), permutations=400)
    assert [(layer, number) for layer, number, *_ in found.features] == [(0, 4)]
    assert (found.called, found.strong) == (1, 1)
    eta = found.features[0][2]
    whole = value_CF[:, 4]
    within = [whole[(type_C == t) & (group_C == g)] for t in "ab" for g in "xy"]
    left = [sum(((part - part.mean()) ** 2).sum() for part in within[2 * k : 2 * k + 2]) for k in (0, 1)]
    every = [((whole[type_C == t] - whole[type_C == t].mean()) ** 2).sum() for t in "ab"]
    assert eta == pytest.approx(np.mean([1 - a / b for a, b in zip(left, every, strict=True)]))


def test_features_held_at_their_mean_and_none_held(tracer):
    rows = np.arange(8)
    mean_F = cell_means(tracer, rows).mean(0)
    assert mean_F.shape == (tracer.transcoders.n_features * len(tracer.transcoders.layers),)
    cells = tracer.encode(rows[:2])
    x_Td = mlp_streams(tracer.lm, cells).inputs[0]
    coder = tracer.transcoders.layers[0]
    free, held = (held_stand_ins(tracer, one, mean_F)[0](x_Td) for one in ([], [(0, 3)]))
    assert torch.allclose(free, coder(x_Td))
    z_T = coder.encode(x_Td)[:, 3]
    moved_Td = (float(mean_F[3]) - z_T)[:, None] * coder.W_dec_Fd[3]
    assert torch.allclose(held - free, moved_Td, atol=1e-5)
    found = answers_without({"here": (tracer, rows)}, [(0, 3), (1, 2)], mean_F, np.ones_like(mean_F), draws=2)
    with replaced_mlps(tracer.lm, tracer.transcoders.stand_ins()):
        lead = tracer.lead
        given = predicted(score_labels(tracer.lm, tracer.encode(rows), tracer.labels, lead), tracer.labels)
    assert found[0].right == sum(a == b for a, b in zip(given, tracer.table.answers[rows], strict=True))
    assert len(found[0].random) == 2
