"""Micro-batches: the result of the whole step, whatever goes through at once; halved when memory runs out."""

from dataclasses import replace

import pytest
import torch

from scx_core.errors import ScxError
from scx_core.training import train
from scx_core.training import trainer_state as reading
from scx_core.training.plan import MicroBatch, StepPlan, choose_precision, has_bfloat16, slices
from scx_core.transcoders import load_set
from tests.training.builders import (
    CFG,
    LAYER_TRAIN,
    TRAIN,
    T,
    data,
    layer_step,
    layer_trainer,
    open_job,
    same,
    start,
)

CELLS = 10
KINDS = {
    "batchtopk": replace(CFG, kind="batchtopk", skip=True),
    "topk": replace(CFG, kind="topk"),
    "jumprelu": replace(CFG, kind="jumprelu", target_l0=4.0),
    "relu": replace(CFG, kind="relu", target_l0=4.0, l1=0.01),
    "relative": replace(CFG, error="relative", normalise=False),
}
SHORT = replace(TRAIN, steps=12, dead_after=300, evaluate_every=12, checkpoint_every=6)


def stepped(cfg, micro: int | None, dead: bool = True):
    """One layer after a step on 200 tokens of ten cells: its report, gradients and memory."""
    layer = layer_trainer(cfg, LAYER_TRAIN)
    layer.memory["cut"] = torch.tensor(0.4)
    if dead:
        layer.memory["unseen"][[3, 11, 17]] = LAYER_TRAIN.dead_after + 1
    weight_T = torch.linspace(0.5, 1.5, T)
    report = layer_step(layer, *data(), 3, weight_T, StepPlan(micro=MicroBatch(micro)), CELLS)
    return report, {name: t.grad for name, t in layer.weights.items()}, layer.memory


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("micro", [1, 4])
def test_parts_add_up_to_the_whole_step(kind, micro):
    whole, grads, memory = stepped(KINDS[kind], None)
    parts, part_grads, part_memory = stepped(KINDS[kind], micro)
    for name in ("loss", "fvu", "l0", "dead"):
        assert getattr(parts, name) == pytest.approx(getattr(whole, name), rel=2e-5), name
    assert parts.dead > 0
    for name, grad in grads.items():
        assert torch.allclose(part_grads[name], grad, rtol=1e-4, atol=1e-5 * float(grad.abs().max())), name
    assert torch.equal(part_memory["unseen"], memory["unseen"])
    for name in ("cut", "penalty", "l0"):
        assert torch.allclose(part_memory[name], memory[name], rtol=1e-5), name


def test_a_guess_above_the_threshold_does_not_change_the_selection():
    found = []
    for cut in (0.0, 100.0):
        layer = layer_trainer(CFG)
        layer.memory["cut"] = torch.tensor(cut)
        report = layer_step(layer, *data(), 3, torch.ones(T), StepPlan(micro=MicroBatch(3)), CELLS)
        found.append((report.loss, report.l0))
    assert found[0] == found[1] and found[0][1] == pytest.approx(3.0)


def test_a_whole_training_in_micro_batches_follows_the_same_curve(tmp_path, model):
    runs = [start(tmp_path, model, config=replace(SHORT, micro_batch_cells=size)) for size in (0, 4)]
    made = [train(run, *open_job(run)) for run in runs]
    for one, other in zip(*(run.metrics() for run in runs), strict=True):
        for name in ("loss", "l0", "fvu", "dead"):
            assert other[name] == pytest.approx(one[name], rel=1e-3), name
    for one, other in zip(*(s.layers for s in made), strict=True):
        assert torch.allclose(one.W_enc_Fd, other.W_enc_Fd, atol=1e-3 * float(one.W_enc_Fd.abs().max()))


def scarce(monkeypatch, cells: int, tokens: int) -> None:
    """A device on which a forward pass of more cells, or a layer of more tokens, does not fit."""
    from scx_core.training.layer_trainer import LayerTrainer

    mlp_io, code = reading.mlp_io, LayerTrainer.code

    def small_mlp_io(lm, ids_BT, mask_BT, **options):
        if len(ids_BT) > cells:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return mlp_io(lm, ids_BT, mask_BT, **options)

    def small_code(self, x_Td, *rest):
        if len(x_Td) > tokens:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return code(self, x_Td, *rest)

    monkeypatch.setattr(reading, "mlp_io", small_mlp_io)
    monkeypatch.setattr(LayerTrainer, "code", small_code)


def test_out_of_memory_halves_the_micro_batch_says_so_and_loses_nothing(tmp_path, model, monkeypatch, capsys):
    unbroken = start(tmp_path, model, config=SHORT)
    whole = train(unbroken, *open_job(unbroken))
    run = start(tmp_path, model, config=SHORT)

    def scarce_from_7(done, total, message):
        if message == "training" and done == 7:
            scarce(monkeypatch, cells=4, tokens=130)

    made = train(run, *open_job(run), scarce_from_7)
    assert run.latest_checkpoint().state["micro_batch_cells"] == 1
    notes = [record for record in run.metrics() if "note" in record]
    assert [(note["step"], note["micro_batch_cells"]) for note in notes] == [(8, 1)]
    assert "out of memory: 3 cells at a time" in capsys.readouterr().err
    assert notes[0]["note"] == "out of memory: 1 cells at a time from here on"
    curves = [[r["loss"] for r in found.metrics() if "loss" in r] for found in (run, unbroken)]
    assert curves[0] == pytest.approx(curves[1], rel=1e-3) and len(curves[0]) == 3
    for one, other in zip(whole.layers, made.layers, strict=True):
        assert torch.allclose(one.W_dec_Fd, other.W_dec_Fd, atol=1e-3 * float(one.W_dec_Fd.abs().max()))


def test_when_not_one_cell_fits_it_says_what_to_do(tmp_path, model, monkeypatch):
    run = start(tmp_path, model, config=SHORT)

    def scarce_from_7(done, total, message):
        if message == "training" and done == 7:
            scarce(monkeypatch, cells=0, tokens=0)

    with pytest.raises(ScxError, match=r"cells, one at a time.*expansion"):
        train(run, *open_job(run), scarce_from_7)
    assert run.status().state == "failed" and run.latest_checkpoint().step == 6


def test_a_set_whose_last_steps_do_not_fit_is_finished_without_them_and_says_so(tmp_path, model, monkeypatch):
    from scx_core.training import finetune

    def full(*_args, **_options):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(finetune, "hidden_states", full)
    run = start(tmp_path, model, config=replace(SHORT, finetune_steps=3))
    other = start(tmp_path, model, config=SHORT)
    made, plain = train(run, *open_job(run)), train(other, *open_job(other))
    assert same(made, plain) and made.meta["train"]["finetune_steps"] == 0
    status = run.status()
    assert (status.state, status.done, status.total) == ("done", 12, 12)
    assert "without the steps of all layers together" in status.message
    assert any("without the steps" in record.get("note", "") for record in run.metrics())


def test_a_compiled_part_is_still_read_and_is_given_back(tmp_path, model, monkeypatch):
    seen = []

    def compile_(forward, **_options):
        def counted(*args, **kwargs):
            seen.append(forward)
            return forward(*args, **kwargs)

        return counted

    monkeypatch.setattr(torch, "compile", compile_)
    runs = [start(tmp_path, model, config=replace(SHORT, steps=4, compile=wish)) for wish in (True, False)]
    (lm, table), made = open_job(runs[0]), []
    for run in runs:
        made.append(train(run, lm, table))
        assert len(seen) > 4 * 4 and "forward" not in vars(lm.part(0, "mlp"))
    calls = len(seen)
    assert same(*made) and calls == len(seen)


def test_what_cannot_be_compiled_is_said(tmp_path, model, monkeypatch):
    def fail(*_args, **_options):
        raise RuntimeError("no compiler here")

    monkeypatch.setattr(torch, "compile", lambda forward, **_options: fail)
    run = start(tmp_path, model, config=replace(SHORT, compile=True))
    with pytest.raises(ScxError, match=r"could not be compiled: no compiler here.*without compile"):
        train(run, *open_job(run))


def test_slices_cover_everything_once():
    for n, parts in ((10, 3), (2, 5), (7, 1)):
        found = list(slices(n, parts))
        assert [i for part in found for i in range(n)[part]] == list(range(n)) and len(found) <= parts


def test_precision_is_float32_on_a_processor_unless_asked_for(tmp_path, model):
    lm, table = open_job(start(tmp_path, model))
    from scx_core.training.processes.distributed import ALONE
    from scx_core.training.tokens import encode_texts

    texts = encode_texts(lm, table, range(4), lm.sentence_config)
    assert choose_precision(lm, texts, "auto", ALONE) == "float32"
    found = choose_precision(lm, texts, "fastest", ALONE)
    assert found in (("float32", "bfloat16") if has_bfloat16(lm.device) else ("float32",))


def test_bfloat16_is_of_the_models_pass_alone_and_a_resumed_run_keeps_it(tmp_path, model):
    run = start(tmp_path, model, config=replace(SHORT, precision="bfloat16"))
    made = train(run, *open_job(run))
    assert all(tensor.dtype == torch.float32 for layer in made.layers for tensor in layer.tensors().values())
    state = run.latest_checkpoint().state
    assert {"precision": "bfloat16", "micro_batch_cells": 0}.items() <= state.items()
    exact = start(tmp_path, model, config=SHORT)
    train(exact, *open_job(exact))
    losses = [found.metrics()[-1]["loss"] for found in (run, exact)]
    assert losses[0] != losses[1] and losses[0] == pytest.approx(losses[1], rel=0.05)
    assert load_set(run.path / "transcoders").meta["train"]["precision"] == "bfloat16"
