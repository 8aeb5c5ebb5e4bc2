"""Memory that does not suffice outside of a layer's step: at the start, in calibrating, measuring, tuning."""

from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from scx_core.errors import ScxError
from scx_core.training import evaluation as quality
from scx_core.training import finetune, train
from scx_core.training.config import TranscoderConfig
from scx_core.training.finetune import FineTune
from scx_core.training.layer_trainer import LayerTrainer
from scx_core.training.plan import MicroBatch, StepPlan, choose_cells
from scx_core.training.processes.distributed import Team
from scx_core.training.tokens import encode_texts
from scx_core.training.trainer import calibrated
from scx_core.training.trainer_state import TrainerState
from tests.tiny import tiny_language, tiny_table
from tests.training.builders import (
    CFG,
    CODER,
    TRAIN,
    T,
    data,
    layer_step,
    layer_trainer,
    open_job,
    start,
    weights,
)

SHORT = replace(TRAIN, steps=12, dead_after=300, evaluate_every=12, checkpoint_every=6)
FULL = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


def scarce(monkeypatch, place, name: str, most: int, argument: int = 1, error: Exception = FULL) -> None:
    """`place.name` has no memory for a tensor (the given argument) of more than `most` rows."""
    whole = getattr(place, name)

    def small(*args, **options):
        if len(args[argument]) > most:
            raise error
        return whole(*args, **options)

    monkeypatch.setattr(place, name, small)


@pytest.fixture(scope="module")
def lm(tmp_path_factory):
    return tiny_language(tmp_path_factory.mktemp("lm"), layers=3)


@pytest.fixture(scope="module")
def texts(lm):
    return encode_texts(lm, tiny_table(20), np.arange(20), lm.sentence_config)


@pytest.fixture(scope="module")
def session(lm, texts):
    return TrainerState.fresh(lm, texts, CODER, SHORT)


@pytest.mark.parametrize(
    "words",
    [
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "[enforce fail at alloc_cpu.cpp:118] err == 0. DefaultCPUAllocator: can't allocate memory: you tried",
        "CUDA error: out of memory",
    ],
)
def test_other_words_for_it_are_understood_and_other_errors_go_on(words):
    def job(cells):
        if cells > 2:
            raise RuntimeError(words)
        return cells

    assert MicroBatch().run(job, 8) == 2

    def broken(cells):
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes"):
        MicroBatch().run(broken, 8)


def test_measuring_goes_on_with_fewer_cells_at_once(lm, texts, session, monkeypatch, capsys):
    coders, cells = session.coders(), range(20)
    losses, sums = quality.spliced(lm, coders, texts, cells), quality.layer_sums(lm, coders, texts, cells)
    scarce(monkeypatch, quality, "hidden_states", 3)
    scarce(monkeypatch, quality, "mlp_io", 3)
    assert quality.spliced(lm, coders, texts, cells) == pytest.approx(losses, rel=1e-5)
    for one, other in zip(quality.layer_sums(lm, coders, texts, cells), sums, strict=True):
        assert one == pytest.approx(other, rel=1e-5)
    assert capsys.readouterr().err.count("out of memory: 2 cells at a time") == 2


@pytest.mark.parametrize("kind", ["batchtopk", "jumprelu"])
def test_thresholds_are_calibrated_in_parts(lm, texts, kind, monkeypatch):
    cfg = replace(CODER, kind=kind, target_l0=3.0 if kind == "jumprelu" else 0.0)
    session = TrainerState.fresh(lm, texts, cfg, replace(SHORT, calibration_cells=12))
    whole = [layer.threshold_F for layer in calibrated(session).layers]
    scarce(monkeypatch, LayerTrainer, "largest", 200)
    assert session.plan.micro.cells is None
    parts = [layer.threshold_F for layer in calibrated(session).layers]
    assert session.plan.micro.cells in (1, 2)
    for one, other in zip(whole, parts, strict=True):
        assert torch.allclose(one, other, rtol=1e-6) and bool((one > 0).all())


def test_the_first_weights_come_from_as_many_cells_as_fit(lm, texts, monkeypatch, capsys):
    scarce(monkeypatch, LayerTrainer, "from_data", 200, argument=2)
    fresh = TrainerState.fresh(lm, texts, CODER, SHORT)
    assert "out of memory" in capsys.readouterr().err
    assert fresh.plan.micro.cells is None, "that says nothing of a step"
    assert 0 < fresh.step(0).fvu[0] < 1.5


@pytest.mark.parametrize("writes", ["own", "later"])
@pytest.mark.parametrize("skip_prompt", [False, True])
def test_parts_of_a_tuning_step_add_up_to_the_whole(lm, texts, writes, skip_prompt):
    texts = texts._replace(skip_prompt=skip_prompt)
    cfg = replace(CODER, writes=writes, skip=True)
    coders = TrainerState.fresh(lm, texts, cfg, SHORT).coders()
    found = []
    for size in (None, 3, 1):
        tune = FineTune(lm, coders, 1e-3, MicroBatch(size))
        report = tune.step(texts, range(7), 1.0, 4.0)
        found.append(
            (report, [t.grad for layer in tune.weights for t in layer.values() if t.grad is not None])
        )
    for report, grads in found[1:]:
        assert report == pytest.approx(found[0][0], rel=1e-4)
        assert len(grads) == len(found[0][1])
        for one, whole in zip(grads, found[0][1], strict=True):
            assert torch.allclose(one, whole, rtol=1e-3, atol=1e-4 * float(whole.abs().max()))


def test_the_last_steps_halve_what_goes_through_at_once_and_say_so(tmp_path, model, monkeypatch):
    config = replace(SHORT, finetune_steps=4)
    unbroken, run = (start(tmp_path, model, config=config) for _ in range(2))
    whole = train(unbroken, *open_job(unbroken))
    scarce(monkeypatch, finetune, "hidden_states", 3)
    made = train(run, *open_job(run))
    assert [(r["step"], r["micro_batch_cells"]) for r in run.metrics() if "note" in r] == [(13, 3)]
    for one, other in zip(weights(made), weights(whole), strict=True):
        assert torch.allclose(one, other, atol=1e-3 * float(other.abs().max()))


def test_memory_that_ends_elsewhere_ends_the_run_with_a_message(tmp_path, model, monkeypatch):
    run = start(tmp_path, model, config=SHORT)

    def full(*_args, **_options):
        raise FULL

    def from_9(done, total, message):
        if message == "training" and done == 8:
            monkeypatch.setattr(torch.optim.Adam, "step", full)

    with pytest.raises(ScxError, match=r"memory.*2\.00 GiB.*last checkpoint is kept"):
        train(run, *open_job(run), from_9)
    assert run.status().state == "failed" and "2.00 GiB" in run.status().error
    assert run.latest_checkpoint().step == 6


def test_in_a_team_a_layers_step_is_not_begun_twice(monkeypatch):
    """A second try would meet the others' messages of the first one."""
    asked = []

    class Two(Team):
        def total(self, values):
            asked.append("total")
            return values

        def gathered(self, values_N):
            asked.append("gathered")
            return values_N

        def sum_gradients(self, weights):
            asked.append("gradients")
            raise FULL

    plan = SimpleNamespace(partners=Two(0, 2), micro=MicroBatch())
    layer = layer_trainer(CFG)
    with pytest.raises(torch.OutOfMemoryError):
        layer_step(layer, *data(), 3, torch.ones(T), plan, 8)
    assert asked.count("gradients") == 1 and asked.count("total") == 1


def test_in_a_team_each_process_halves_for_itself(monkeypatch):
    """What is said between them does not depend on the size of a micro-batch."""
    said = {}
    for size in (8, 1):
        asked = said.setdefault(size, [])

        class Two(Team):
            def total(self, values, asked=asked):
                asked.append(("total", values.shape))
                return values

            def gathered(self, values_N, asked=asked):
                asked.append("gathered")
                return values_N

            def sum_gradients(self, weights, asked=asked):
                asked.append("gradients")

        with monkeypatch.context() as patch:
            plan = StepPlan(team=Two(0, 2), micro=MicroBatch())
            layer = layer_trainer(CFG)
            scarce(patch, LayerTrainer, "code", T * size // 8)
            layer.memory["unseen"][[3, 11]] = layer.train.dead_after + 1
            layer_step(layer, *data(), 3, torch.ones(T), plan, 8)
        assert plan.micro.cells == (None if size == 8 else 1)
    assert said[8] == said[1]


@pytest.mark.parametrize(
    ("free_gb", "writes", "layers", "wanted"),
    [
        (80, "own", 24, 16),  # all of a step
        (16, "own", 24, 16),
        (
            12.5,
            "own",
            24,
            8,
        ),  # 0.7 of it, less 1.3 for inputs and outputs, less 6.4 for the state; 118 MB a cell
        (12.5, "own", 12, 16),  # half of the layers are another process'
        (9, "own", 24, 1),
        (80, "later", 24, 5),  # 300 decoders, and the graphs of all layers at once
    ],
)
def test_the_micro_batch_leaves_room_for_weights_and_optimiser(monkeypatch, free_gb, writes, layers, wanted):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (int(free_gb * 1e9), 10**11))
    card = SimpleNamespace(device=torch.device("cuda"), facts=SimpleNamespace(width=1024, n_layers=24))
    cfg = TranscoderConfig(expansion=8, writes=writes)
    assert choose_cells(card, cfg, 0, 16, 16 * 400, layers) == wanted
    assert choose_cells(card, cfg, 5, 16, 16 * 400, layers) == 5, "a wish is a wish"


def test_the_micro_batch_keeps_matrices_that_a_card_can_search(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (10**15, 10**15))
    card = SimpleNamespace(device=torch.device("cuda"), facts=SimpleNamespace(width=1024, n_layers=24))
    found = choose_cells(card, TranscoderConfig(expansion=64), 0, 256, 256 * 400, 24)
    assert found * 400 * 64 * 1024 < 2**31 <= (found + 1) * 400 * 64 * 1024


def test_products_are_rounded_on_a_card_in_bfloat16_alone(lm, texts, monkeypatch):
    before = torch.get_float32_matmul_precision()
    for plan, device, inside in (
        (StepPlan(bfloat16=True), "cuda", "high"),
        (StepPlan(bfloat16=True), "cpu", before),
        (StepPlan(), "cuda", before),
    ):
        with plan.products(torch.device(device)):
            assert torch.get_float32_matmul_precision() == inside
        assert torch.get_float32_matmul_precision() == before
    with pytest.raises(RuntimeError, match="stop"), StepPlan(bfloat16=True).products(torch.device("cuda")):
        raise RuntimeError("stop")
    assert torch.get_float32_matmul_precision() == before
    seen = []
    monkeypatch.setattr(StepPlan, "products", lambda plan, device: nullcontext(seen.append(str(device))))
    TrainerState.fresh(lm, texts, CODER, SHORT).step(0)
    assert seen == ["cpu"]


@pytest.mark.parametrize("kind", ["batchtopk", "topk", "jumprelu", "relu"])
def test_parts_of_a_cross_layer_step_add_up_to_the_whole(lm, texts, kind):
    target = 4.0 if kind in ("jumprelu", "relu") else 0.0
    cfg = replace(CODER, kind=kind, writes="later", skip=True, target_l0=target)
    found = []
    for size in (None, 3, 1):
        session = TrainerState.fresh(
            lm, texts, cfg, replace(SHORT, dead_after=10), StepPlan(micro=MicroBatch(size))
        )
        for layer in session.layers:
            layer.memory["unseen"][[3, 11]] = 1000
        reports = session.gradients(range(7), 4, texts.weights(lm, range(7), 4.0))
        grads = [t.grad for layer in session.layers for t in layer.weights.values()]
        memory = [trainee.memory[name] for trainee in session.layers for name in ("cut", "penalty", "unseen")]
        found.append((reports, grads, memory))
    (whole, whole_grads, whole_memory), *others = found
    assert whole[0].dead > 0
    for reports, grads, memory in others:
        for one, other in zip(reports, whole, strict=True):
            assert one[1:] == pytest.approx(other[1:], rel=1e-4)
        for grad, wanted in zip(grads, whole_grads, strict=True):
            assert torch.allclose(grad, wanted, rtol=1e-3, atol=1e-4 * float(wanted.abs().max()))
        assert all(torch.allclose(a, b, rtol=1e-4) for a, b in zip(memory, whole_memory, strict=True))


def test_a_cross_layer_step_goes_on_with_fewer_cells_at_once(lm, texts, monkeypatch):
    cfg = replace(CODER, kind="jumprelu", writes="later", target_l0=4.0)
    sessions = [TrainerState.fresh(lm, texts, cfg, SHORT) for _ in range(2)]
    whole = sessions[0].step(0)
    scarce(monkeypatch, LayerTrainer, "code", 200)
    found = sessions[1].step(0)
    assert sessions[1].plan.micro.cells is not None
    assert found.loss == pytest.approx(whole.loss, rel=1e-4) and found.l0 == pytest.approx(whole.l0, rel=1e-4)
    for one, other in zip(*(s.layers for s in sessions), strict=True):
        assert torch.allclose(one.weights["log_threshold"], other.weights["log_threshold"], rtol=1e-4)
