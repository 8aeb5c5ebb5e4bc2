"""Features that read other genes than the one they stand at are found, with the gene; others are not."""

import weakref

import numpy as np
import pytest

from scx_core.atlas import AtlasConfig, make_atlas
from scx_core.atlas.collect import context as context_module
from scx_core.atlas.collect import one_pass
from scx_core.atlas.collect.context import COIN_COPIES, GROUPS, gene_pool, make_copies, panel_genes
from scx_core.atlas.judge.protocol import reason
from tests.atlas.planted_context import planted_context
from tests.tiny import tiny_cells


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    return planted_context(tmp_path_factory.mktemp("context"))


@pytest.fixture(scope="module")
def rows(case):
    cfg = AtlasConfig(batch=16, baseline=False, random=1, context=40)
    atlas = make_atlas(case.lm, case.transcoders, case.table, cfg=cfg)
    atlas.features["said"] = [reason(row, atlas.meta["thresholds"]) for _, row in atlas.features.iterrows()]
    return atlas.features


def test_context_features_are_found_with_the_gene_that_they_read(case, rows):
    found = rows[rows["layer"] == 1].assign(reads=case.reads)
    context = found[found["reads"] != ""]
    assert (context["verdict"] == "context").all()
    assert (context["context_genes"] == context["reads"]).all()
    assert all(
        label.startswith(f"context: reads {gene}, at")
        for label, gene in zip(context["label"], context["reads"], strict=True)
    )
    assert (context["effect_low"] > context["effect_null"]).all() and (context["context_low"] > 0.5).all()
    assert (context["context_effect"] > 0.9).all() and (context["token_share"] < 0.2).all()
    assert context["said"].str.contains("lost when the other genes are exchanged").all()


def test_features_of_a_token_read_no_context(case, rows):
    token = rows[rows["layer"] == 1][np.array(case.reads) == ""]
    assert token["verdict"].isin(["token", "spelling", "prompt"]).all()
    assert (token["context_share"] < 0.05).all() and (token["context_genes"] == "").all()
    # In a parallel block the first MLP cannot read anything else.
    first = rows[(rows["layer"] == 0) & (rows["tokens"] > 0)]
    assert (first["context_share"] < 1e-6).all() and (first["verdict"] != "context").all()


def test_copies_keep_places_and_what_they_say_they_keep(case):
    cells = tiny_cells(case.lm, case.table)[:20]
    pool = gene_pool(cells)
    for cell in cells:
        copies = make_copies(cell, (7, 8), pool, np.random.default_rng(1))
        n, K = copies.kept_VK.shape
        assert n > GROUPS + COIN_COPIES and copies.ids_VT.shape == (n, len(cell.ids) + 2)
        assert copies.ids_VT[0].tolist() == [*cell.ids, 7, 8]
        free = ~copies.kept_VK[1 : 1 + GROUPS].all(0)
        assert (copies.kept_VK[1 : 1 + GROUPS, free].sum(0) == 1).all()
        for k in range(K):
            here = copies.gene_T == k
            changed = (copies.ids_VT[:, here] != copies.ids_VT[0, here]).any(1)
            assert not changed[copies.kept_VK[:, k]].any() and changed[~copies.kept_VK[:, k]].all()
        outside = copies.gene_T == K
        assert (copies.ids_VT[:, outside] == copies.ids_VT[0, outside]).all()


def test_where_memory_is_short_effects_are_of_the_genes_that_the_most_cells_have(case, rows, monkeypatch):
    cells = tiny_cells(case.lm, case.table)
    every = panel_genes(cells, 10**9)
    assert every == sorted({gene for cell in cells for gene in cell.genes})
    times = {gene: sum(gene in cell.genes for cell in cells) for gene in every}
    few = panel_genes(cells, 9)
    assert len(few) == 9 and min(times[gene] for gene in few) >= max(
        times[gene] for gene in every if gene not in few
    )
    # The features, and one draw of directions.
    units = 2 * case.lm.facts.n_layers * case.transcoders.n_features
    room = (len(every) - 3) * 4 * context_module.NAMED_NUMBERS * units
    monkeypatch.setattr(context_module, "NAMED_BYTES", room)
    cfg = AtlasConfig(batch=16, baseline=False, random=1, context=40)
    short = make_atlas(case.lm, case.transcoders, case.table, cfg=cfg).features
    np.testing.assert_array_equal(short["context_share"], rows["context_share"])
    named = {gene for genes in short["context_genes"] for gene in genes.split()}
    assert named and named <= set(every)
    assert len(named) >= len({gene for gene in case.reads if gene}) - 3


@pytest.mark.parametrize("module", [context_module, one_pass])
def test_what_mlps_read_and_wrote_is_let_go_before_the_next_cells_come(case, monkeypatch, module):
    """Two batches side by side would be 2 GB more at 24 layers of width 1,024."""
    before, ask = [], module.mlp_io

    def watched(*given):
        assert not any(one() is not None for one in before)
        found = ask(*given)
        before.extend(map(weakref.ref, [*found.inputs, *found.outputs]))
        return found

    monkeypatch.setattr(module, "mlp_io", watched)
    make_atlas(case.lm, case.transcoders, case.table, range(12), AtlasConfig(batch=4, context=3, random=1))
    assert len(before) >= 2 * 2 * case.lm.facts.n_layers


def test_chosen_genes_hold_nothing_of_what_they_were_chosen_from():
    sums = context_module._ContextSums(n_units=5, n_cells=2, n_genes=40, named=True)
    sums.half_4GF += 1
    sums.choose()
    assert sums.chosen_DF.base is None and not sums.half_4GF.any()
