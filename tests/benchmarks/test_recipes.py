"""How a recipe is judged: exact where an MLP is a linear map, less where it is none."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.recipes import VARIANTS, bench_recipes, choosing_split, judge, parse, table_of
from scx_core.cells import open_cells, split_cells
from scx_core.errors import ScxError
from tests.tiny import tiny_language, tiny_table


@pytest.mark.parametrize("act", ["linear", "relu"])
def test_linear_maps_are_exact_for_linear_mlps_only(tmp_path, act):
    lm, table = tiny_language(tmp_path / act, act=act), tiny_table(24)
    found = judge(lm, table, np.arange(6), np.arange(6, 24))
    assert found.n == 6
    assert found.recovered["original"] == 1.0 and found.recovered["zero"] == 0.0
    if act == "linear":
        assert found.recovered["linear"] == pytest.approx(1.0, abs=1e-4)  # the ridge
        assert found.agreement["linear"] == 1.0
        assert max(found.fvu) < 1e-6
    else:
        assert abs(found.recovered["linear"] - 1.0) > 1e-3
        assert min(found.fvu) > 0.01


def test_recipes_are_chosen_on_training_cells_alone():
    table = open_cells("embedded")
    split = split_cells(table)
    fit, choose = choosing_split(table, split.train)
    assert len(np.intersect1d(choose, split.held_out)) == 0 == len(np.intersect1d(fit, choose))
    assert np.array_equal(np.sort(np.concatenate([fit, choose])), split.train)
    assert set(table.labels[choose]) == set(table.types)


def test_every_variant_can_be_read_and_no_other(tmp_path):
    for settings in VARIANTS.values():
        recipe, sentences = parse(settings.split())
        assert recipe.readings <= 20_000 and sentences.n_genes <= 150
    with pytest.raises(ScxError, match="no recipe"):
        bench_recipes(tmp_path, ["nonsense"])
    assert table_of([]).count("\n") == 1
