"""Exported sets as the peers' own libraries read them (the test extra `peers`): equal outputs, and back."""

import pytest
import torch

from scx_core.transcoders.layouts import export_set, import_set
from tests.transcoders.layout_sets import inputs, random_set, same


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("kind", ["relu", "topk"])
def test_sparsify_computes_what_we_do(tmp_path, kind, skip):
    sparsify = pytest.importorskip("sparsify", reason="eai-sparsify is not installed (extra: peers)")
    ours = export_set(random_set(kind, skip, layers=3), tmp_path / "set", "sparsify")
    theirs = sparsify.SparseCoder.load_many(str(tmp_path / "set"), local=True)
    assert list(theirs) == ["layers.0.mlp", "layers.1.mlp", "layers.2.mlp"]
    for coder, own, x_Td in zip(theirs.values(), ours.layers, inputs(ours), strict=True):
        assert torch.allclose(coder(x_Td).sae_out, own(x_Td), atol=1e-5)
    for name, coder in theirs.items():
        coder.save_to_disk(tmp_path / "theirs" / name)
    assert same(ours, import_set(tmp_path / "theirs"))


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("kind", ["relu", "jumprelu"])
def test_sae_lens_computes_what_we_do(tmp_path, kind, skip):
    sae_lens = pytest.importorskip("sae_lens", reason="sae-lens is not installed (extra: peers)")
    ours = export_set(random_set(kind, skip, layers=3), tmp_path / "set", "saelens")
    for layer, (own, x_Td) in enumerate(zip(ours.layers, inputs(ours), strict=True)):
        coder = sae_lens.SAE.load_from_disk(tmp_path / "set" / f"layer_{layer}")
        assert torch.allclose(coder(x_Td), own(x_Td), atol=1e-5)
        assert torch.equal(coder.encode(x_Td) != 0, own.encode(x_Td) != 0)
        coder.save_model(tmp_path / "theirs" / f"layer_{layer}")
    assert same(ours, import_set(tmp_path / "theirs"))
