"""Gates, active features and shapes of a transcoder."""

import pytest
import torch

from scx_core.errors import ScxError
from scx_core.transcoders import Transcoder, TranscoderSet

F, D, T = 12, 5, 7


def weights(seed: int = 0, skip: bool = False) -> dict:
    generator = torch.Generator().manual_seed(seed)

    def random(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    found = {"W_enc_Fd": random(F, D), "b_enc_F": random(F), "W_dec_Fd": random(F, D), "b_dec_d": random(D)}
    return found | ({"W_skip_dd": random(D, D)} if skip else {})


def inputs() -> torch.Tensor:
    return torch.randn(T, D, generator=torch.Generator().manual_seed(9), dtype=torch.float64)


def test_each_gate_passes_what_its_definition_says():
    x_Td, w = inputs(), weights()
    pre_TF = x_Td @ w["W_enc_Fd"].T + w["b_enc_F"]
    assert torch.allclose(Transcoder(**w).encode(x_Td), pre_TF.clamp(min=0))

    threshold_F = torch.linspace(0.1, 1.0, F, dtype=torch.float64)
    jump = Transcoder(**w, kind="jumprelu", threshold_F=threshold_F).encode(x_Td)
    assert torch.allclose(jump, torch.where(pre_TF > threshold_F, pre_TF, 0.0))

    top = Transcoder(**w, kind="topk", k=3).encode(x_Td)
    for t in range(T):
        wanted = torch.zeros(F, dtype=torch.float64)
        for i in pre_TF[t].argsort(descending=True)[:3]:
            wanted[i] = max(pre_TF[t, i], 0.0)
        assert torch.allclose(top[t], wanted)


def test_top_k_never_lets_a_negative_pre_activation_through():
    w = weights()
    w["b_enc_F"] = torch.full((F,), -100.0, dtype=torch.float64)
    assert not Transcoder(**w, kind="topk", k=3).encode(inputs()).any()


def test_active_lists_the_entries_of_encode_by_position():
    coder = Transcoder(**weights(), kind="jumprelu", threshold_F=torch.full((F,), 0.3, dtype=torch.float64))
    z_TF, active = coder.encode(inputs()), coder.active(inputs())
    rebuilt = torch.zeros_like(z_TF)
    rebuilt[active.position_N, active.feature_N] = active.value_N
    assert torch.equal(rebuilt, z_TF) and (active.value_N > 0).all() and len(active.value_N) > 0
    assert (active.position_N.diff() >= 0).all()


def test_call_adds_skip_path_and_keeps_leading_dimensions():
    w = weights(skip=True)
    coder, x_BTd = Transcoder(**w), inputs()[None].repeat(2, 1, 1)
    wanted = coder.encode(x_BTd) @ w["W_dec_Fd"] + w["b_dec_d"] + x_BTd @ w["W_skip_dd"].T
    assert torch.allclose(coder(x_BTd), wanted)
    assert not torch.allclose(coder.decode(coder.encode(x_BTd)), wanted)


def test_to_moves_every_tensor_and_keeps_the_gate():
    coder = Transcoder(**weights(skip=True), kind="jumprelu", threshold_F=torch.ones(F, dtype=torch.float64))
    small = TranscoderSet((coder,), {"name": "a"}, "f").to(dtype=torch.float32)
    assert {t.dtype for t in small.layers[0].tensors().values()} == {torch.float32}
    assert len(small.layers[0].tensors()) == 6
    assert (small.kind, small.fingerprint, small.name) == ("jumprelu", "f", "a")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"b_enc_F": torch.zeros(F + 1)}, "b_enc"),
        ({"W_dec_Fd": torch.zeros(D, F)}, "W_dec"),
        ({"W_skip_dd": torch.zeros(D, F)}, "W_skip"),
        ({"kind": "topk"}, "topk"),
        ({"kind": "jumprelu"}, "jumprelu"),
    ],
)
def test_wrong_shapes_and_missing_parts_are_named(change, named):
    with pytest.raises(ScxError, match=named):
        Transcoder(**(weights() | change))


def test_layers_of_a_set_must_agree():
    other = {"W_enc_Fd": torch.zeros(3, D), "b_enc_F": torch.zeros(3), "W_dec_Fd": torch.zeros(3, D)}
    with pytest.raises(ScxError, match="Layer 1"):
        TranscoderSet((Transcoder(**weights()), Transcoder(**other, b_dec_d=torch.zeros(D))))
    with pytest.raises(ScxError, match="no layers"):
        TranscoderSet(())
