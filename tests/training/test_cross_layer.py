"""Cross-layer transcoders: identities, gradients, the loop, files, and what is refused."""

import os
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as nnf

from scx_core.attribution.local_replacement_model import freeze
from scx_core.attribution.residual_stream import streams
from scx_core.attribution.virtual_weights import feature_inputs
from scx_core.circuits import make_tracer
from scx_core.errors import ScxError
from scx_core.language import mlp_io, replaced_mlps
from scx_core.training import train
from scx_core.training.config import TranscoderConfig
from scx_core.training.evaluation import layer_sums, spliced
from scx_core.training.ops import sparse
from scx_core.training.tokens import encode_texts
from scx_core.training.trainer_state import TrainerState
from scx_core.transcoders import CrossLayerSet, load_set, save_set
from scx_core.transcoders.layouts import export_set
from scx_core.validation import validate
from tests.tiny import tiny_language, tiny_table
from tests.training.builders import CODER, TRAIN, open_job, same, start
from tests.transcoders.layout_sets import random_set
from tests.validation.sets import exact_set

CROSS = replace(CODER, writes="later")
TUNED = replace(TRAIN, steps=20, finetune_steps=6, checkpoint_every=5)


@pytest.fixture(scope="module")
def lm(tmp_path_factory):
    return tiny_language(tmp_path_factory.mktemp("lm"), layers=3, act="relu")


@pytest.fixture(scope="module")
def texts(lm):
    return encode_texts(lm, tiny_table(7), np.arange(7), lm.sentence_config)


def cross_set(own, scale: float) -> CrossLayerSet:
    """A per-layer set with random cross terms of this size."""
    generator, n = torch.Generator().manual_seed(1), len(own.layers)
    like = own.layers[0].W_dec_Fd
    cross = [torch.randn(n - 1 - m, *like.shape, generator=generator, dtype=like.dtype) for m in range(n)]
    return CrossLayerSet(own.layers, cross=tuple(scale * W for W in cross))


def same_cross(a: CrossLayerSet, b: CrossLayerSet) -> bool:
    return same(a, b) and all(torch.equal(x, y) for x, y in zip(a.cross, b.cross, strict=True))


def test_an_exact_set_without_cross_terms_changes_nothing(lm, texts):
    exact = cross_set(exact_set(lm), 0.0)
    found = spliced(lm, exact, texts, range(7))
    assert found.kl == pytest.approx(0, abs=1e-9) and found.ce_recovered == pytest.approx(1, abs=1e-9)


def test_an_exact_set_with_cross_terms_changes_nothing(lm, texts):
    """Layer 0 writes for layer 1 what a second copy of its features there takes back."""
    base = exact_set(lm)
    W_Fd = torch.randn(base.layers[0].W_dec_Fd.shape, generator=torch.Generator().manual_seed(3)).to(lm.dtype)
    doubled = [
        replace(
            coder,
            W_enc_Fd=torch.cat([coder.W_enc_Fd] * 2),
            b_enc_F=torch.cat([coder.b_enc_F] * 2),
            W_dec_Fd=torch.cat([coder.W_dec_Fd, 0 * coder.W_dec_Fd]),
        )
        for coder in base.layers
    ]
    cross = [torch.cat([W_Fd, -W_Fd]).expand(2 - m, -1, -1) for m in range(3)]
    exact = CrossLayerSet(tuple(doubled), cross=tuple(cross))
    assert spliced(lm, exact, texts, range(7)).kl == pytest.approx(0, abs=1e-9)
    assert spliced(lm, replace(exact, cross=tuple(W.abs() for W in cross)), texts, range(7)).kl > 0.01


def test_without_cross_terms_it_is_the_per_layer_set(lm, texts):
    own = exact_set(lm)
    own = replace(own, layers=tuple(replace(c, b_enc_F=c.b_enc_F - 0.3) for c in own.layers))
    cross = cross_set(own, 0.0)
    assert spliced(lm, cross, texts, range(7)) == pytest.approx(spliced(lm, own, texts, range(7)))
    pairs = zip(layer_sums(lm, cross, texts, range(7)), layer_sums(lm, own, texts, range(7)), strict=True)
    assert all(a == pytest.approx(b) for a, b in pairs)


def test_features_of_earlier_layers_are_those_of_the_replaced_model(lm, texts):
    coders, batch = cross_set(exact_set(lm), 0.05), texts.batch(lm, [0, 1])
    with replaced_mlps(lm, coders.stand_ins()):
        io = mlp_io(lm, *batch)
        again = mlp_io(lm, *batch)  # a second pass remembers nothing of the first
    z = [coder.encode(x_BTd) for coder, x_BTd in zip(coders.layers, io.inputs, strict=True)]
    for target, coder in enumerate(coders.layers):
        wanted = coder(io.inputs[target])
        for m in range(target):
            wanted = wanted + z[m] @ coders.cross[m][target - m - 1]
        assert torch.allclose(io.outputs[target], wanted, atol=1e-9)
        assert torch.equal(io.outputs[target], again.outputs[target])


@pytest.mark.parametrize("kind", ["batchtopk", "topk", "jumprelu", "relu"])
def test_gradients_reach_every_decoder_and_rows_have_unit_length(lm, texts, kind):
    session = TrainerState.fresh(lm, texts, replace(CROSS, kind=kind), TRAIN)
    widths = [trainee.weights["W_dec"].shape[1] for trainee in session.layers]
    assert widths == [3 * 16, 2 * 16, 16]
    session.gradients(range(4), 4, texts.weights(lm, range(4), 1.0))
    for trainee in session.layers:
        for part_Fd in trainee.weights["W_dec"].grad.split(16, 1):
            assert float(part_Fd.abs().max()) > 0
    session.step(0)
    for trainee in session.layers:
        assert torch.allclose(trainee.weights["W_dec"].norm(dim=1), torch.ones(64), atol=1e-5)


def test_the_first_loss_is_that_of_the_per_layer_set_and_folding_keeps_the_output(lm, texts):
    session = TrainerState.fresh(lm, texts, replace(CROSS, kind="relu"), TRAIN)
    with torch.no_grad():
        for trainee in session.layers:
            noise = torch.randn(trainee.weights["W_dec"].shape, generator=torch.Generator().manual_seed(2))
            trainee.weights["W_dec"] += 0.1 * noise
    io = mlp_io(lm, *texts.batch(lm, [0]))
    x, y = ([side[0].float() for side in sides] for sides in (io.inputs, io.outputs))
    reports = session.gradients([0], 4, torch.ones(len(x[0])))
    for (_, guess_Td), y_Td, report in zip(session.coders().coded(x, y), y, reports, strict=True):
        fvu = nnf.mse_loss(guess_Td, y_Td, reduction="sum") / (y_Td - y_Td.mean(0)).square().sum()
        assert float(fvu) == pytest.approx(report.fvu, rel=1e-3)


def test_the_loop_trains_tunes_stops_resumes_and_loads_them(tmp_path, model):
    run = start(tmp_path / "a", model, CROSS, TUNED)
    made = train(run, *open_job(run))
    assert made.form == "cross-layer" and made.meta["kind"] == "cross_layer"
    assert all(bool(W.any()) for W in made.cross[:-1])
    assert all(layer["fvu"] < 1 and layer["l0"] > 0 for layer in made.meta["metrics"]["per_layer"])
    assert run.metrics()[0]["loss"] > run.metrics()[3]["loss"]
    back = load_set(run.path / "transcoders")
    assert same_cross(made, back) and back.fingerprint == made.fingerprint
    broken = start(tmp_path / "b", model, CROSS, TUNED)
    for at in (12, 23):

        def ask(done, total, message, at=at):
            if message == "training" and done == at:
                os.kill(os.getpid(), signal.SIGTERM)

        assert train(broken, *open_job(broken), ask) is None
    assert same_cross(train(broken, *open_job(broken)), made)


def test_files_come_back_bit_for_bit_and_broken_ones_are_named(tmp_path):
    ours = cross_set(random_set("jumprelu", True, layers=3), 1.0)
    saved = save_set(tmp_path / "set", ours, {"name": "mine"})
    back = load_set(tmp_path / "set")
    assert same_cross(ours, back) and back.name == "mine" and back.fingerprint == saved.fingerprint
    assert load_set(tmp_path / "set", dtype=torch.float64).cross[0].dtype == torch.float64
    (tmp_path / "set" / "cross_layer_1.safetensors").unlink()
    with pytest.raises(ScxError, match="cross_layer_1"):
        load_set(tmp_path / "set")


def test_what_it_cannot_do_is_refused(tmp_path, lm):
    coders = cross_set(exact_set(lm), 0.0)
    tracer = make_tracer(lm, coders, tiny_table(7))
    frozen = freeze(tracer.rep, tracer.encode([0])[0].ids)
    for asked in (lambda: streams(frozen), lambda: feature_inputs(tracer.rep, 1, 0, 5)):
        with pytest.raises(ScxError, match="a cross-layer set"):
            asked()
    with pytest.raises(ScxError, match="one decoder a layer"):
        export_set(coders, tmp_path / "set", "saelens")
    with pytest.raises(ScxError, match="cannot write to later"):
        TranscoderConfig(reads="output", writes="later")
    with pytest.raises(ScxError, match="expected"):
        replace(coders, cross=coders.cross[:-1])


def test_validation_replaces_all_layers_together(lm):
    found = validate(lm, cross_set(exact_set(lm), 0.0), tiny_table(13), np.arange(5))
    assert found.form == "cross-layer" and found.kl == pytest.approx(0, abs=1e-9) and found.fvu < 1e-12


@pytest.mark.parametrize("writes", ["own", "later"])
def test_large_layers_step_as_small_ones(lm, texts, monkeypatch, writes):
    """The whole step by the compiled rows and by torch, with moments that either goes on with."""
    states = []
    for least in (1, 2**40, 1):
        monkeypatch.setattr(sparse, "WORTH_COMPILING", least)
        states.append(TrainerState.fresh(lm, texts, replace(CODER, writes=writes), TRAIN))
        for step in range(3):
            if least == 1 and len(states) == 3 and step == 1:  # torch goes on with our moments
                monkeypatch.setattr(sparse, "WORTH_COMPILING", 2**40)
            states[-1].step(step)
    first, *others = (state.tensors() for state in states)
    for other in others:
        assert set(other) == set(first)
        for name, tensor in first.items():
            torch.testing.assert_close(tensor, other[name], atol=2e-5, rtol=2e-4, msg=name)
