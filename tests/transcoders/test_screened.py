"""Active features that are looked for in bfloat16 are those of the float32 product, none missed."""

import pytest
import torch

from scx_core.transcoders import Transcoder, module, screened

T, D, F = 60, 64, 400


def parts(seed: int, spread: float = 0.0) -> tuple[torch.Tensor, ...]:
    """Tokens of very different sizes where `spread` is not 0, encoders, biases and thresholds."""
    generator = torch.Generator().manual_seed(seed)
    x_Td = torch.randn(T, D, generator=generator)
    x_Td = x_Td * torch.exp(spread * torch.randn(T, 1, generator=generator))
    W_Fd = torch.randn(F, D, generator=generator) * D**-0.5
    return x_Td, W_Fd, torch.randn(F, generator=generator), 2.5 + torch.rand(F, generator=generator)


def exact(x_Td, W_Fd, b_F, threshold_F) -> torch.Tensor:
    return x_Td.double() @ W_Fd.double().T + b_F.double() - threshold_F.double()


@pytest.mark.parametrize("spread", [0.0, 3.0])
@pytest.mark.parametrize("seed", range(3))
def test_bounds_are_bounds(seed, spread):
    given = parts(seed, spread)
    found_TF, over_TF = screened._bounds(*given), exact(*given)
    # as signs: a pair above its threshold is never taken for a silent one
    assert bool((found_TF[over_TF > 0] > 0).all()) and int((over_TF > 0).sum()) > 0
    assert int((found_TF > 0).sum()) < 6 * int((over_TF > 0).sum())


def test_bounds_hold_where_all_roundings_go_the_same_way():
    # every factor lies just below the middle between two numbers of bfloat16, and is rounded down
    one = torch.full((1, D), 1 + 2.0**-8 - 2.0**-20)
    total = float((one.double() ** 2).sum())
    assert float((one.bfloat16().double() ** 2).sum()) < total * (1 - 2.0**-8 + 2.0**-15)
    for share in (1 - 1e-6, 1 - 1e-3):
        threshold_F = torch.tensor([total * share])
        assert float(screened._bounds(one, one, torch.zeros(1), threshold_F)) > 0
        position_N, feature_N, value_N = screened.screened(
            one.repeat(40, 1), torch.cat([one, -one.repeat(99, 1)]), torch.zeros(100), threshold_F.repeat(100)
        )
        assert position_N.tolist() == list(range(40)) and not feature_N.any()
        torch.testing.assert_close(value_N, torch.full((40,), total))


@pytest.mark.parametrize("spread", [0.0, 1.0])
def test_the_same_pairs_and_values(spread):
    given = parts(5, spread)
    over_TF = exact(*given)
    position_N, feature_N, value_N = screened.screened(*given)
    found_TF = torch.zeros(T, F, dtype=torch.bool)
    found_TF[position_N, feature_N] = True
    certain_TF = over_TF.abs() > 1e-4
    assert torch.equal(found_TF[certain_TF], (over_TF > 0)[certain_TF])
    assert torch.equal(torch.stack([position_N, feature_N], 1), found_TF.nonzero())
    wanted_N = (over_TF + given[3])[position_N, feature_N].float()
    torch.testing.assert_close(value_N, wanted_N, rtol=1e-5, atol=1e-5)


def test_too_many_candidates_are_left_to_the_whole_product():
    x_Td, W_Fd, b_F, _ = parts(6)
    assert screened.screened(x_Td, W_Fd, b_F, torch.zeros(F)) is None


def test_a_transcoder_asks_for_it_and_does_without(monkeypatch):
    x_Td, W_Fd, b_F, threshold_F = parts(7)
    coder = Transcoder(W_Fd, b_F, W_Fd, torch.zeros(D), kind="jumprelu", threshold_F=threshold_F)
    asked = []
    monkeypatch.setattr(module, "LARGE", 1)
    monkeypatch.setattr(module, "at_hand", lambda: True)
    monkeypatch.setattr(module, "screened", lambda *given: asked.append(1) or screened.screened(*given))
    with torch.no_grad():
        found, guess_Td = coder.active(x_Td), coder(x_Td)
        assert len(asked) == 2
        monkeypatch.setattr(module, "AT_ONCE", 7 * F)  # nine parts, of which the last is smaller
        in_parts = coder.active(x_Td)
        assert len(asked) == 11
        monkeypatch.setattr(module, "at_hand", lambda: False)
        plain, plain_guess_Td = coder.active(x_Td), coder(x_Td)
    for other in (found, in_parts):
        assert torch.equal(other.position_N, plain.position_N)
        assert torch.equal(other.feature_N, plain.feature_N)
        torch.testing.assert_close(other.value_N, plain.value_N)
    torch.testing.assert_close(guess_Td, plain_guess_Td)
    assert len(asked) == 11
