"""The last steps, all layers together: they help, they resume bit for bit, gates stay as they are."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from scx_core.language import load_language
from scx_core.training import finetune, train
from scx_core.training.finetune import rate_of_step
from scx_core.training.tokens import encode_texts
from scx_core.training.trainer_state import TrainerState
from scx_core.transcoders import load_set
from tests.tiny import tiny_table
from tests.training.builders import CODER, TRAIN, in_its_own_process, open_job, same, start, steady

TUNED = replace(TRAIN, finetune_steps=20, finetune_rate=3e-3)


@pytest.fixture(scope="module")
def tuned(tmp_path_factory, model):
    run = start(tmp_path_factory.mktemp("tuned"), model, config=TUNED)
    return run, train(run, *open_job(run))


def test_predictions_get_closer_and_gates_stay(unbroken, tuned):
    (_, before), (run, after) = unbroken, tuned
    assert after.meta["metrics"]["kl"] < 0.9 * before.meta["metrics"]["kl"]
    for old, new in zip(before.layers, after.layers, strict=True):
        assert torch.equal(old.threshold_F, new.threshold_F)
        assert not torch.equal(old.W_enc_Fd, new.W_enc_Fd)
    records = [record for record in run.metrics() if "tune_kl" in record]
    assert [record["step"] for record in records] == [45, 50, 55, 60]
    assert "ce_recovered" in records[-1]
    assert (run.status().state, run.status().done, run.status().total) == ("done", 60, 60)


def test_killed_in_the_last_steps_it_ends_with_the_same_bits(tmp_path, model):
    runs = [start(tmp_path, model, config=TUNED, name=name) for name in ("whole", "killed")]
    in_its_own_process(runs[0])
    for step in (33, 47, 55, 0):
        in_its_own_process(runs[1], step)
    whole, resumed = (load_set(run.path / "transcoders") for run in runs)
    assert same(resumed, whole)
    assert steady(runs[1].metrics()) == steady(runs[0].metrics())


@pytest.mark.parametrize("kind", ["topk", "relu", "jumprelu"])
def test_other_gates_are_tuned_as_well(tmp_path, model, kind):
    coder = replace(CODER, kind=kind, skip=True)
    run = start(tmp_path, model, coder, replace(TUNED, steps=10, finetune_steps=4))
    made = train(run, *open_job(run))
    assert made.kind == kind
    assert all(torch.isfinite(tensor).all() for layer in made.layers for tensor in layer.tensors().values())


def test_relu_has_as_many_active_features_as_before(tmp_path, model):
    """No gate holds their number: the controller of a target has, and the last steps must not move it."""
    coder, config = replace(CODER, kind="relu", target_l0=6.0), replace(TRAIN, steps=20)
    runs = [start(tmp_path, model, coder, replace(config, finetune_steps=n), name=f"{n}") for n in (0, 8)]
    plain, tuned = (train(run, *open_job(run)) for run in runs)
    assert tuned.meta["metrics"]["kl"] < plain.meta["metrics"]["kl"]
    l0 = [[layer["l0"] for layer in made.meta["metrics"]["per_layer"]] for made in (plain, tuned)]
    assert l0[0] == l0[1]
    for one, two in zip(plain.layers, tuned.layers, strict=True):
        assert torch.equal(one.W_enc_Fd, two.W_enc_Fd) and not torch.equal(one.W_dec_Fd, two.W_dec_Fd)


def test_the_rate_is_flat_then_falls_to_nothing():
    rates = [rate_of_step(step, 10) for step in range(10)]
    assert rates[:3] == [1.0, 1.0, 1.0]
    assert rates == sorted(rates, reverse=True)
    assert 0 < rates[-1] < 0.2


@pytest.mark.parametrize("kind", ["batchtopk", "relu"])
def test_what_is_run_again_on_the_way_back_gives_the_same_steps(model, kind, monkeypatch):
    """Large layers keep their inputs alone, and are run again; so are the logits, a chunk at a time."""
    lm = load_language(model, device="cpu", dtype="float32")
    texts = encode_texts(lm, tiny_table(6), np.arange(6), lm.sentence_config)
    coders = TrainerState.fresh(lm, texts, replace(CODER, kind=kind, skip=True), TRAIN).coders()
    found = []
    for kept in (4e9, 0.0):
        monkeypatch.setattr(finetune, "KEPT", kept)
        monkeypatch.setattr(finetune, "CHUNK_LOGITS", 4000)
        tune = finetune.FineTune(lm, coders, 1e-3)
        reports = [tune.step(texts, range(6), 1.0, 4.0) for _ in range(2)]
        found.append((reports, tune.tensors()))
    (reports, one), (others, other) = found
    for report, again in zip(reports, others, strict=True):
        assert again == pytest.approx(report, rel=1e-5)
    for name, tensor in one.items():
        torch.testing.assert_close(other[name], tensor, rtol=1e-3, atol=1e-6, msg=name)


def test_the_memory_of_all_layers_together_is_counted_before(model, monkeypatch):
    lm = load_language(model, device="cpu", dtype="float32")
    texts = encode_texts(lm, tiny_table(6), np.arange(6), lm.sentence_config)
    coders = TrainerState.fresh(lm, texts, CODER, TRAIN).coders()
    assert finetune.cells_of_tuning(lm, coders, texts, 6) is None
    a_cell = finetune.bytes_of_cells(lm, coders.n_features, len(texts.ids) / 6)
    weights = sum(t.numel() for layer in coders.tensors() for t in layer.values())
    room = finetune.TUNING_BYTES * weights + 2.5 * a_cell
    monkeypatch.setattr(
        finetune.psutil, "virtual_memory", lambda: SimpleNamespace(total=room / finetune.USABLE)
    )
    assert finetune.cells_of_tuning(lm, coders, texts, 6) == 2
