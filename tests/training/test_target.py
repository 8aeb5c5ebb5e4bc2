"""A wanted number of active features: held by the whole training, for every form, and in the saved set."""

import statistics
from dataclasses import replace

import pytest
import torch

from scx_core.errors import ScxError
from scx_core.training import train
from scx_core.training.config import TranscoderConfig
from scx_core.training.layer_trainer import LayerTrainer
from scx_core.training.objective.jumprelu import control_penalty
from tests.training.builders import CODER, EVEN, TRAIN, data, layer_step, open_job, start

WANTED = 6.0
# A feature counts as dead after as many tokens as by default: with the few of CODER's short runs one is
# revived every ten steps, fires on everything for a while, and L0 is that of the revival.
LONG = replace(
    TRAIN,
    steps=400,
    dead_after=40_000,
    warmup=10,
    anneal=0.1,
    log_every=1,
    evaluate_every=400,
    checkpoint_every=400,
)
FORMS = {"transcoder": {}, "sae": {"reads": "output"}, "cross-layer": {"writes": "later"}}


@pytest.mark.parametrize("kind", ["relu", "jumprelu"])
@pytest.mark.parametrize("form", FORMS)
def test_a_training_holds_its_target_within_ten_percent(tmp_path, model, kind, form):
    coder = replace(CODER, kind=kind, target_l0=WANTED, **FORMS[form])
    run = start(tmp_path, model, coder, LONG)
    made = train(run, *open_job(run))
    records = [record["l0"] for record in run.metrics() if "l0" in record]
    for layer in range(2):
        held = statistics.fmean(record[layer] for record in records[-100:])
        assert held == pytest.approx(WANTED, rel=0.1)
        assert made.meta["metrics"]["per_layer"][layer]["l0"] == pytest.approx(WANTED, rel=0.1)
    assert run.status().message == "finished"


def test_a_training_too_short_for_its_target_says_so(tmp_path, model):
    coder = replace(CODER, kind="relu", target_l0=WANTED)
    run = start(tmp_path, model, coder, replace(LONG, steps=20, evaluate_every=20, checkpoint_every=20))
    assert train(run, *open_job(run)) is not None
    assert "active features a token where 6 were asked for" in run.status().message


def test_relu_begins_where_its_target_is_met():
    x_Td, y_Td = data()
    cfg, even = TranscoderConfig(expansion=8, kind="relu", target_l0=4.0), replace(TRAIN, anneal=0.0)
    for l1 in (1e-6, 10.0):
        layer = LayerTrainer.from_data(replace(cfg, l1=l1), even, x_Td, y_Td, layer=0)
        report = layer_step(layer, x_Td, y_Td, 4, EVEN)
        assert report.l0 == pytest.approx(4.0, rel=0.05), "whatever penalty is given"
        assert 0.01 < float(layer.memory["penalty"]) < 1
    given = LayerTrainer.from_data(replace(cfg, l1=0.5, target_l0=0.0), even, x_Td, y_Td, layer=0)
    assert float(given.memory["penalty"]) == 0.5 and not given.weights["b_enc"].any()


def test_the_penalty_turns_before_the_target_is_passed():
    memory = {"penalty": torch.tensor(1.0), "l0": torch.tensor(0.0)}
    penalties = []
    for step in range(60):
        control_penalty(memory, 40.0 * 0.95**step, 8.0)
        penalties.append(float(memory["penalty"]))
    turn = penalties.index(max(penalties))
    assert 40.0 * 0.95**turn > 1.5 * 8.0, "L0 falls fast: it will be there without more"


@pytest.mark.parametrize("kind", ["batchtopk", "topk"])
def test_a_target_for_gates_that_have_k_is_refused_and_not_ignored(kind):
    with pytest.raises(ScxError, match=r"k is 15.*Give k 8"):
        TranscoderConfig(kind=kind, target_l0=8.0)
