"""Where a set's features write, as the atlas reads it."""

from dataclasses import replace

import pytest
import torch

from scx_core.atlas import NEURONS, AtlasConfig, CoderUnits, make_atlas
from scx_core.atlas.collect import tally
from scx_core.atlas.collect.units import pushed
from scx_core.errors import ScxError
from scx_core.transcoders import CrossLayerSet
from tests.tiny import renamed_table, tiny_language, tiny_table
from tests.validation.sets import random_set


def crossed(lm) -> CrossLayerSet:
    own, n = random_set(lm), lm.facts.n_layers
    generator, like = torch.Generator().manual_seed(2), own.layers[0].W_dec_Fd
    shapes = [(n - 1 - m, *like.shape) for m in range(n)]
    cross = (torch.randn(*shape, generator=generator).to(like.dtype) for shape in shapes)
    return CrossLayerSet(own.layers, cross=tuple(cross))


def test_kinds(tmp_path):
    lm = tiny_language(tmp_path)
    own = random_set(lm)
    kinds = [CoderUnits(lm, coders).kind for coders in (own, replace(own, reads="output"), crossed(lm))]
    assert kinds == ["transcoder", "sae", "cross-layer"]


def test_cross_layer_features_write_what_reaches_the_end_of_the_stream(tmp_path):
    """Layer by layer, as sets of their own that write to one target: the weights add up."""
    lm = tiny_language(tmp_path, layers=3)
    coders, labels = crossed(lm), ["B cell", "T cell"]
    units, n = CoderUnits(lm, coders), len(lm.unembedding)
    for layer, W_SFd in enumerate(coders.cross):
        parts = [coders.layers[layer].W_dec_Fd, *W_SFd]
        torch.testing.assert_close(units.writes(layer), torch.stack(parts).sum(0))
        weight_FV = torch.zeros(coders.n_features, n)
        for W_Fd in parts:
            one = replace(coders.layers[layer], W_dec_Fd=W_Fd)
            alone = random_set(lm)
            alone = replace(alone, layers=(*alone.layers[:layer], one, *alone.layers[layer + 1 :]))
            found = pushed(lm, CoderUnits(lm, alone), layer, n, labels)
            weight_FV += torch.zeros_like(weight_FV).scatter(1, found.token_Fn[:, :n], found.weight_Fn[:, :n])
        found = pushed(lm, units, layer, n, labels)
        together = torch.zeros_like(weight_FV).scatter(1, found.token_Fn[:, :n], found.weight_Fn[:, :n])
        torch.testing.assert_close(together, weight_FV, rtol=1e-4, atol=1e-4)


def test_behind_a_norm_of_each_mlp_they_have_no_sum(tmp_path):
    lm = tiny_language(tmp_path, family="gemma2")
    assert lm.facts.family.mlp_post_norm and CoderUnits(lm, random_set(lm)).kind == "transcoder"
    with pytest.raises(ScxError, match="norm behind each MLP"):
        CoderUnits(lm, crossed(lm))


def test_of_neurons_that_would_fill_the_memory_the_first_are_measured_and_it_is_said(tmp_path, monkeypatch):
    lm, table, cfg = tiny_language(tmp_path), tiny_table(24), AtlasConfig(batch=6, random=0, context=6)
    whole = make_atlas(lm, random_set(lm), table, cfg=cfg).beside[NEURONS]
    assert "of_units" not in whole.meta and whole.meta["n_units"] > 5
    monkeypatch.setattr(tally, "DENSE_BYTES", 1)
    monkeypatch.setattr(tally, "LEAST_NEURONS", 5)
    some = make_atlas(lm, random_set(lm), table, cfg=cfg).beside[NEURONS]
    assert (some.meta["n_units"], some.meta["of_units"]) == (5, whole.meta["n_units"])
    same = whole.features[whole.features["feature"] < 5]
    for column in ("layer", "feature", "tokens", "context_share", "context_tokens"):
        assert some.features[column].tolist() == pytest.approx(same[column].tolist(), rel=1e-6), column


def test_the_answers_that_are_pushed_are_the_models_own_whatever_the_data_call_their_cells(tmp_path):
    lm, cfg = tiny_language(tmp_path), AtlasConfig(batch=6, random=0, context=6, baseline=False)
    table = renamed_table(dict.fromkeys(lm.labels[:2], "tumour cell"))
    atlas = make_atlas(lm, random_set(lm), table, cfg=cfg)
    writes = atlas.table("writes")
    pushed_answers = set(writes.loc[writes["kind"] == "answer", "text"].astype(str))
    assert pushed_answers == set(lm.labels)
    assert "tumour cell" in atlas.meta["types"], "where it fires is told by the names of the data"
    named = dict(zip(atlas.meta["types"], atlas.meta["cells_of_types"], strict=True))
    assert named == {label: int((table.labels == label).sum()) for label in named}
