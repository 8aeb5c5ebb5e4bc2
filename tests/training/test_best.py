"""What a run has cost, its best checkpoint, and a run that ends with it."""

import signal
from contextlib import AbstractContextManager
from dataclasses import replace
from unittest import mock

import numpy as np
import pytest

from scx_core.cells import Split
from scx_core.language import fast_attention
from scx_core.language.numerics.denormals import flushed_subnormals
from scx_core.runs import RunFolder, read_json
from scx_core.training import train
from scx_core.training import trainer as loops
from scx_core.training.config import TrainConfig
from scx_core.training.tokens import cells_of_step, encode_texts
from scx_core.training.train import measured_cells
from scx_core.training.trainer import calibrated
from scx_core.training.trainer_state import TrainerState
from tests.training.builders import CODER, TRAIN, open_job, same, start, steady

QUICK = replace(TRAIN, steps=12, log_every=2, evaluate_every=3, checkpoint_every=5)
BEST = replace(QUICK, best_at_end=True)
TUNED = replace(BEST, finetune_steps=4)
MEASURED = (5.0, 3.0, 4.0, 4.0)  # after 3, 6, 9 and 12 steps


def measured_as(*values: float) -> AbstractContextManager[object]:
    """While training, CE with every MLP replaced as planned, one measurement after the other."""
    planned, measure = iter(values), loops.spliced

    def planned_next(*a, **how):
        return measure(*a, **how)._replace(ce_transcoder=next(planned))

    return mock.patch.object(loops, "spliced", planned_next)


def trained(root, model, config: TrainConfig, *values: float, name: str | None = None):
    run = start(root, model, CODER, config, name)
    with measured_as(*values):
        return run, train(run, *open_job(run))


def stopped_after(run: RunFolder, step: int, *values: float) -> None:
    def tell(done, total, message):
        if message == "training" and done == step - 1:
            signal.raise_signal(signal.SIGTERM)

    with measured_as(*values):
        assert train(run, *open_job(run), tell) is None
    assert run.status().done == step


@pytest.fixture(scope="module")
def plain(tmp_path_factory, model):
    """Trained with what it really measures."""
    run = start(tmp_path_factory.mktemp("plain"), model, CODER, QUICK)
    return run, train(run, *open_job(run))


@pytest.fixture(scope="module")
def best(tmp_path_factory, model):
    return trained(tmp_path_factory.mktemp("best"), model, BEST, *MEASURED)


def test_the_best_checkpoint_is_kept_and_the_last_layers_are_the_result(tmp_path, model, plain):
    run, made = trained(tmp_path, model, QUICK, *MEASURED)
    assert sorted(int(file.stem[5:]) for file in (run.path / "checkpoints").glob("*.json")) == [6, 10, 12]
    assert (run.best_checkpoint().step, run.best_checkpoint().score) == (6, 3.0)
    assert same(made, plain[1]) and "step" not in made.meta


def test_where_asked_for_it_ends_with_the_best(best, plain, tmp_path, model):
    run, made = best
    lm, table = open_job(run)
    split = Split.from_json(read_json(run.path / "split.json"))
    texts = encode_texts(lm, table, split.train, lm.sentence_config)
    choosing = encode_texts(lm, table, measured_cells(split.choose, split.seed), lm.sentence_config)
    with fast_attention(lm), flushed_subnormals():
        restored = TrainerState.restored(lm, texts, CODER, BEST, run.best_checkpoint().tensors)
        wanted = calibrated(restored, choosing)
    assert same(made, wanted) and not same(made, plain[1]) and made.meta["step"] == 6
    _, last = trained(tmp_path, model, BEST, 5.0, 4.0, 3.0, 2.0)
    assert same(last, plain[1]) and last.meta["step"] == 12


def test_the_tuning_begins_with_the_best_and_must_better_it(tmp_path, model, best):
    _, better = trained(tmp_path, model, TUNED, *MEASURED, 2.0)
    assert better.meta["step"] == 16 and not same(better, best[1])
    for old, new in zip(best[1].layers, better.layers, strict=True):
        assert (old.threshold_F == new.threshold_F).all(), "tuning leaves the gates as they were"
    _, worse = trained(tmp_path, model, TUNED, *MEASURED, 9.0)
    assert worse.meta["step"] == 6 and same(worse, best[1])

    run = start(tmp_path, model, CODER, TUNED)
    stopped_after(run, 7, *MEASURED[:2])
    stopped_after(run, 14, *MEASURED[2:])
    with measured_as(2.0):
        assert same(train(run, *open_job(run)), better), "resumed twice"


def test_tokens_and_seconds_count_on_over_resumes(tmp_path, model):
    config = replace(QUICK, finetune_steps=4)
    run, _ = trained(tmp_path, model, config, *MEASURED, 2.0, name="unbroken")
    split = Split.from_json(read_json(run.path / "split.json"))
    lm, table = open_job(run)
    length_C = np.diff(encode_texts(lm, table, split.train, lm.sentence_config).start)
    cells = [(step, config.seed) for step in range(12)] + [(step, config.seed + 2) for step in range(4)]
    read = np.cumsum([length_C[cells_of_step(s, len(length_C), 6, seed)].sum() for s, seed in cells])
    for record in run.metrics():
        assert record["tokens"] == read[record["step"] - 1]

    broken = start(tmp_path, model, CODER, config, "broken")
    stopped_after(broken, 7, *MEASURED[:2])
    first = broken.metrics()[-1]["seconds"]
    with measured_as(*MEASURED[2:], 2.0):
        train(broken, *open_job(broken))
    assert steady(broken.metrics()) == steady(run.metrics())
    seconds = [record["seconds"] for record in broken.metrics()]
    assert seconds == sorted(seconds) and 0 < first < seconds[-1]


def test_a_checkpoint_that_does_not_know_its_cost_is_gone_on_from(tmp_path, model, plain):
    run = start(tmp_path, model, CODER, QUICK)
    stopped_after(run, 7, *MEASURED[:2])
    saved = run.latest_checkpoint()
    run.save_checkpoint(saved.step, saved.tensors, {"precision": "float32"})  # as it was written before
    assert same(train(run, *open_job(run)), plain[1])
    assert not any({"tokens", "seconds"} & record.keys() for record in run.metrics() if record["step"] > 7)
