"""A training run from start to end: it learns, stops, survives kills, and says what is wrong."""

import os
import signal
from dataclasses import replace

import pytest
import torch

from scx_core.cells import Split
from scx_core.errors import ScxError
from scx_core.language import load_language
from scx_core.runs import read_json
from scx_core.training import estimate, train
from scx_core.training.config import (
    TrainConfig,
    features_of_step,
    learning_rate,
)
from scx_core.training.evaluation import layer_sums, spliced
from scx_core.training.tokens import encode_texts
from scx_core.training.train import training_split
from scx_core.transcoders import load_set
from tests.tiny import tiny_table
from tests.training.builders import CODER, TRAIN, in_its_own_process, open_job, same, start, steady


def test_training_learns_and_is_saved_with_its_figures(unbroken):
    run, made = unbroken
    records = run.metrics()
    assert [record["step"] for record in records] == list(range(5, 41, 5))
    assert records[-1]["loss"] < 0.7 * records[0]["loss"]
    assert all(len(records[-1][name]) == 2 for name in ("fvu", "l0", "dead"))
    assert [r["step"] for r in records if "ce_recovered" in r and "kl" in r] == [20, 40]
    assert run.status().state == "done"
    assert made.kind == "jumprelu" and made.fingerprint == load_set(run.path / "transcoders").fingerprint
    figures = made.meta["metrics"]
    assert figures["ce_zero"] > figures["ce_orig"] and figures["kl"] > 0
    for layer in figures["per_layer"]:
        assert layer["l0"] == pytest.approx(CODER.k, rel=0.15) and layer["fvu"] < 1


def test_thresholds_let_k_features_through_on_the_cells_that_choose(unbroken, model):
    run, made = unbroken
    lm, table = open_job(run)
    split = Split.from_json(read_json(run.path / "split.json"))
    assert made.meta["split"]["choose"] == len(split.choose) > 0
    texts = encode_texts(lm, table, split.choose, lm.sentence_config)
    for sums in layer_sums(lm, made, texts, range(texts.n_cells)):
        assert sums.l0 == pytest.approx(CODER.k, abs=0.05)


def test_a_run_killed_twice_ends_with_the_same_bits(tmp_path, model, unbroken):
    run = start(tmp_path, model)
    for step in (17, 31):
        in_its_own_process(run, step)
        assert run.status().state == "dead"
        assert run.latest_checkpoint().step == step // 10 * 10
    resumed = train(run, *open_job(run))
    assert same(resumed, unbroken[1])
    assert steady(run.metrics()) == steady(unbroken[0].metrics())
    for layer in range(2):
        file = f"transcoders/layer_{layer}.safetensors"
        assert (run.path / file).read_bytes() == (unbroken[0].path / file).read_bytes()


def test_sigterm_ends_the_step_writes_a_checkpoint_and_the_run_goes_on(tmp_path, model, unbroken):
    run = start(tmp_path, model)

    def ask_at_13(done, total, message):
        if message == "training" and done == 12:
            os.kill(os.getpid(), signal.SIGTERM)

    assert train(run, *open_job(run), ask_at_13) is None
    assert (run.status().state, run.status().done, run.latest_checkpoint().step) == ("stopped", 13, 13)
    assert not (run.path / "transcoders").exists()
    assert same(train(run, *open_job(run)), unbroken[1])


def test_a_stop_while_the_cells_are_written_leaves_nothing_half_done(tmp_path, model):
    run = start(tmp_path, model)

    def stop(done, total, message):
        if message == "writing cell sentences":
            assert message in run.status().message
            os.kill(os.getpid(), signal.SIGTERM)

    assert train(run, *open_job(run), stop) is None
    assert (run.status().state, run.status().done, run.latest_checkpoint()) == ("stopped", 0, None)
    assert list((run.path / "tokens").iterdir()) == []


def test_a_finished_run_is_not_trained_again(unbroken):
    run, made = unbroken
    before = run.metrics()
    assert same(train(run, *open_job(run)), made) and run.metrics() == before


@pytest.mark.parametrize("kind", ["topk", "relu"])
def test_other_kinds_train_and_load(tmp_path, model, kind):
    run = start(tmp_path, model, replace(CODER, kind=kind, skip=True), replace(TRAIN, steps=10))
    made = train(run, *open_job(run))
    assert made.kind == kind and made.layers[0].W_skip_dd.any()
    assert same(made, load_set(run.path / "transcoders"))


def test_nan_names_step_and_layer_and_keeps_the_last_checkpoint(tmp_path, model):
    run = start(tmp_path, model)
    lm, table = open_job(run)

    def spoil(done, total, message):
        if message == "training" and done == 24:
            with torch.no_grad():
                lm.part(1, "mlp").dense_4h_to_h.bias[0] = float("nan")

    with pytest.raises(ScxError, match="layer 1 is nan at step 24"):
        train(run, lm, table, spoil)
    assert run.status().state == "failed" and "layer 1" in run.status().error
    saved = run.latest_checkpoint()
    assert saved.step == 20 and all(t.isfinite().all() for t in saved.tensors.values())


def test_a_run_refuses_other_cells_and_another_model(tmp_path, model):
    run = start(tmp_path, model)
    lm, table = open_job(run)
    table.fingerprint = "other"
    with pytest.raises(ScxError, match="data of the run"):
        train(run, lm, table)
    with pytest.raises(ScxError, match="model of the run"):
        train(run, replace(lm, fingerprint="other"), tiny_table(30))


def test_the_models_own_split_is_taken_over_for_its_own_cells_only(model):
    lm, table = load_language(model, device="cpu", dtype="float32"), tiny_table(30)
    own = Split.from_json(
        {"by": "random", "seed": 5, "held_out_share": 0.1, "train": [*range(27)], "held_out": [27, 28, 29]}
    )
    facts = {"split": own.to_json(), "provenance": {"data": {"fingerprint": table.fingerprint}}}
    taught = replace(lm, settings=lm.settings | facts)
    assert training_split(taught, table, TRAIN).held_out.tolist() == [27, 28, 29]
    assert training_split(taught, table, replace(TRAIN, split_by="random")).held_out.tolist() != [27, 28, 29]
    carved = training_split(taught, table, TRAIN)  # the model's split is of two parts
    assert len(carved.choose) and sorted([*carved.train, *carved.choose]) == list(range(27))
    assert training_split(taught, table, replace(TRAIN, choose=0.0)).train.tolist() == list(range(27))
    parts = {"train": [*range(20)], "choose": [*range(20, 27)]}
    facts["split"] = Split.from_json(facts["split"] | parts).to_json()
    taught = replace(lm, settings=lm.settings | facts)
    assert training_split(taught, table, TRAIN).choose.tolist() == list(range(20, 27)), "as the model says"
    table.fingerprint = "other cells"
    assert len(training_split(taught, table, TRAIN).held_out) == 5  # one of each type


def test_schedules():
    cfg = TrainConfig(steps=100, warmup=10, decay=0.5, anneal=0.2, learning_rate=1.0)
    rates = [learning_rate(cfg, step) for step in range(100)]
    assert rates[0] == pytest.approx(0.1) and rates[9] == rates[50] == 1.0
    assert rates[75] == pytest.approx(0.5) and 0 < rates[-1] < 0.03
    ks = [features_of_step(CODER, cfg, step) for step in (0, 10, 20, 99)]
    assert ks == [16, 10, 4, 4]


def test_estimate_grows_with_the_steps(model):
    lm = load_language(model, device="cpu", dtype="float32")
    short = estimate(lm, CODER, TRAIN, 30)
    long = estimate(lm, CODER, replace(TRAIN, steps=40_000), 30)
    assert long.seconds > 50 * short.seconds > 0
    assert short.parameters == 2 * (2 * 4 * 16 * 16 + 4 * 16 + 16)
    assert short.bytes > 16 * short.parameters and short.tokens_per_step == 6 * 50


def test_what_is_measured_while_training_is_what_the_finished_set_would_do(tmp_path, model):
    """A running mean of BatchTopK's cut lags behind weights that move: the last record would be worse than
    the set that follows from it."""
    for share in (0.2, 0.0):  # of the cells that choose; without them the test cells do
        cfg = replace(TRAIN, evaluate_cells=100, choose=share)
        run = start(tmp_path, model, replace(CODER, kind="batchtopk"), cfg, f"choose-{share}")
        coders, (lm, table) = train(run, *open_job(run)), open_job(run)
        split = Split.from_json(read_json(run.path / "split.json"))
        texts = encode_texts(lm, table, split.choosing, lm.sentence_config)
        found, last = spliced(lm, coders, texts, range(texts.n_cells)), run.metrics()[-1]
        assert last["ce_transcoder"] == pytest.approx(found.ce_transcoder, rel=1e-6)
        assert last["kl"] == pytest.approx(found.kl, rel=1e-4)
        on_test = coders.meta["metrics"]["ce_transcoder"]
        assert (last["ce_transcoder"] == pytest.approx(on_test, rel=1e-6)) == (share == 0.0)


def test_estimate_counts_the_steps_at_the_end_and_says_what_does_not_fit(model, monkeypatch):
    lm = load_language(model, device="cpu", dtype="float32")
    tuned = estimate(lm, CODER, replace(TRAIN, finetune_steps=40_000), 30)
    assert tuned.seconds > 50 * estimate(lm, CODER, TRAIN, 30).seconds

    def full(*_args, **_options):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(torch.optim.Adam, "step", full)
    with pytest.raises(ScxError, match="memory does not suffice"):
        estimate(lm, CODER, TRAIN, 30)
