"""Studies: places of genes, knock-outs beside genes of the same rank, and rows named by model and rivals."""

from __future__ import annotations

import numpy as np
import pytest

from scx_core.circuits import make_tracer
from scx_core.evidence.studies.gene_ranks import gene_places, places_of
from scx_core.evidence.studies.matched_knockouts import matched_knockouts
from scx_core.evidence.studies.pools import LOGISTIC, MODEL, NEAREST, nearest_profiles, rate_rows
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
