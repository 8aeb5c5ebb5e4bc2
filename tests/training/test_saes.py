"""SAEs of MLP outputs: the same module and loop, spliced where the MLP writes, refused for tracing."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from scx_core.circuits import make_tracer
from scx_core.errors import ScxError
from scx_core.language import OnOutput, forward, mlp_io, replaced_mlps
from scx_core.training import train
from scx_core.training.config import TranscoderConfig
from scx_core.training.evaluation import layer_sums, spliced
from scx_core.training.tokens import encode_texts
from scx_core.training.trainer_state import activations
from scx_core.transcoders import Transcoder, TranscoderSet, load_set, save_set
from scx_core.transcoders.layouts import export_set, import_set
from tests.tiny import tiny_language, tiny_table
from tests.training.builders import CODER, TRAIN, open_job, start
from tests.transcoders.layout_sets import random_set, same

SAE = replace(CODER, reads="output")


@pytest.fixture(scope="module")
def lm(tmp_path_factory):
    return tiny_language(tmp_path_factory.mktemp("lm"))


@pytest.fixture(scope="module")
def texts(lm):
    return encode_texts(lm, tiny_table(7), np.arange(7), lm.sentence_config)


def identity_set(lm) -> TranscoderSet:
    """SAEs that give back what they read: a positive and a negative feature a dimension."""
    eye = torch.eye(lm.facts.width, dtype=lm.dtype)
    both, none_F = torch.cat([eye, -eye]), torch.zeros(2 * lm.facts.width, dtype=lm.dtype)
    layer = Transcoder(both, none_F, both, torch.zeros(lm.facts.width, dtype=lm.dtype))
    return TranscoderSet((layer,) * lm.facts.n_layers, reads="output")


def test_a_stand_in_on_the_output_is_given_what_the_mlp_puts_out(lm, texts):
    batch, seen = texts.batch(lm, [0, 1]), {}

    def doubled(y_BTd):
        seen["y"] = y_BTd
        return 2 * y_BTd

    with torch.no_grad(), replaced_mlps(lm, {0: OnOutput(doubled)}):
        io = mlp_io(lm, *batch)
    assert torch.equal(seen["y"], mlp_io(lm, *batch).outputs[0])
    assert torch.equal(io.outputs[0], 2 * seen["y"])


def test_exact_saes_change_nothing_and_the_same_weights_as_transcoders_do(lm, texts):
    exact = identity_set(lm)
    found = spliced(lm, exact, texts, range(7))
    assert found.kl == pytest.approx(0, abs=1e-9) and found.ce_recovered == pytest.approx(1, abs=1e-9)
    assert all(layer.fvu < 1e-12 for layer in layer_sums(lm, exact, texts, range(7)))
    assert spliced(lm, replace(exact, reads="input"), texts, range(7)).kl > 0.01
    batch = texts.batch(lm, [3])
    with torch.no_grad():
        before = forward(lm, *batch)
        with replaced_mlps(lm, exact.stand_ins()):
            assert torch.allclose(forward(lm, *batch), before, atol=1e-9)


def test_training_reads_the_outputs(lm, texts):
    for (x_Td, y_Td), (other_Td, same_Td) in zip(
        activations(lm, texts, [0, 1], "output"), activations(lm, texts, [0, 1]), strict=True
    ):
        assert x_Td is y_Td and torch.equal(y_Td, same_Td) and not torch.equal(x_Td, other_Td)


def test_the_same_loop_trains_tunes_saves_and_loads_them(tmp_path, model):
    run = start(tmp_path, model, SAE, replace(TRAIN, finetune_steps=4))
    made = train(run, *open_job(run))
    assert (made.form, made.reads, made.kind) == ("sae", "output", "jumprelu")
    back = load_set(run.path / "transcoders")
    assert same(made, back) and (back.reads, back.fingerprint) == ("output", made.fingerprint)
    assert back.to(dtype=torch.float64).reads == "output"
    figures = made.meta["metrics"]
    assert figures["ce_transcoder"] < figures["ce_zero"]
    assert all(layer["fvu"] < 0.9 for layer in figures["per_layer"])


def test_an_sae_with_an_affine_path_is_refused():
    with pytest.raises(ScxError, match="no affine path"):
        TranscoderConfig(reads="output", skip=True)


def test_the_tracer_refuses_them_by_name(lm):
    named = replace(identity_set(lm), meta={"name": "my saes"})
    with pytest.raises(ScxError, match="my saes is a set of SAEs"):
        make_tracer(lm, named, tiny_table(7))


@pytest.mark.parametrize("kind", ["relu", "jumprelu"])
def test_saelens_holds_them_as_its_own_saes(tmp_path, kind):
    ours = replace(random_set(kind, False), reads="output")
    exported = export_set(ours, tmp_path / "set", "saelens")
    assert exported.reads == "output" and same(exported, ours)
    (tmp_path / "set" / "scx.json").unlink()
    bare = import_set(tmp_path / "set")
    assert bare.reads == "output" and same(bare, ours) and bare.fingerprint == exported.fingerprint
    assert save_set(tmp_path / "ours", bare).reads == load_set(tmp_path / "ours").reads == "output"


@pytest.mark.parametrize(
    ("layout", "kind"), [("sparsify", "topk"), ("circuit-tracer", "relu"), ("saelens", "topk")]
)
def test_layouts_that_cannot_hold_them_say_so(tmp_path, layout, kind):
    with pytest.raises(ScxError, match=f"{layout} cannot hold SAEs"):
        export_set(replace(random_set(kind, False), reads="output"), tmp_path / "set", layout)
    assert not (tmp_path / "set").exists()
