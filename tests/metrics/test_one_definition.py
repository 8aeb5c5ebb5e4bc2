"""Every figure stands once, in `scx_core.metrics`: all who use it are held to the method's plain formula.

Among the features are some with JumpReLU thresholds below 0, whose activations are negative: active is what
is not 0.
"""

import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import scx_core
from benchmarks.recipes import _linear_error
from scx_core.atlas import CoderUnits
from scx_core.atlas.collect.units import MlpAt
from scx_core.atlas.match.common_cells import activations
from scx_core.attribution.local_replacement_model import freeze
from scx_core.attribution.replacement_model import replacement
from scx_core.language import MlpIO, forward, mlp_io, replaced_mlps
from scx_core.metrics import (
    RunningVariance,
    active,
    agreement,
    ce_recovered,
    cross_entropy,
    dead,
    fvu,
    kl_divergence,
    l0,
    live,
    squares_about_mean,
    squares_from_sums,
)
from scx_core.training.evaluation import Spliced, layer_sums, spliced
from scx_core.training.finetune import _whole
from scx_core.training.layer_trainer import normalised
from scx_core.training.ops.sparse import select_batch, select_tokens
from scx_core.training.plan import MicroBatch, StepPlan
from scx_core.training.tokens import encode_texts
from scx_core.transcoders import Transcoder, TranscoderSet
from scx_core.validation.label_agreement import ORIGINAL, TRANSCODER, Answers
from scx_core.validation.measure import LayerStream, token_losses
from tests.tiny import tiny_language, tiny_table
from tests.training.builders import LAYER_TRAIN, T, data, layer_step, layer_trainer
from tests.training.test_micro_batch import CELLS, KINDS

F, CUT = 40, 8  # the first CUT features have thresholds below 0
TO_THE_DIGIT = {"rel": 1e-6}


@pytest.fixture(scope="module")
def lm(tmp_path_factory):
    return tiny_language(tmp_path_factory.mktemp("lm"))


def coders_of(lm, kind: str) -> TranscoderSet:
    generator, d = torch.Generator().manual_seed(3), lm.facts.width

    def random(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(lm.dtype)

    layers = []
    for _ in range(lm.facts.n_layers):
        b_enc_F = random(F)
        b_enc_F[[CUT, CUT + 1]] = -1e3  # two that never fire
        threshold_F = torch.where(torch.arange(F) < CUT, -0.7, 0.4).to(lm.dtype)
        layers.append(
            Transcoder(
                random(F, d),
                b_enc_F,
                0.1 * random(F, d),
                random(d),
                kind=kind,
                k=5 if kind == "topk" else None,
                threshold_F=threshold_F if kind == "jumprelu" else None,
            )
        )
    return TranscoderSet(tuple(layers))


@pytest.fixture(scope="module", params=["jumprelu", "topk", "relu"])
def coders(request, lm):
    return coders_of(lm, request.param)


@pytest.fixture(scope="module")
def texts(lm):
    return encode_texts(lm, tiny_table(6), np.arange(6), lm.sentence_config)


@pytest.fixture(scope="module")
def sides(lm, texts):
    """What each MLP reads and writes, [T, d] a layer, over all texts, each one alone."""
    alone = [mlp_io(lm, *texts.batch(lm, [c])) for c in range(texts.n_cells)]
    return [
        [torch.cat([getattr(io, name)[k][0] for io in alone]) for k in range(lm.facts.n_layers)]
        for name in ("inputs", "outputs")
    ]


def test_active_is_what_is_not_0_for_everybody(lm, coders, texts, sides):
    negative, rep = 0, replacement(lm, coders)
    ids = texts.batch(lm, [0])[0][0].tolist()
    frozen, first = freeze(rep, ids), len(ids)
    for k, coder in enumerate(coders.layers):
        x_Td, y_Td = sides[0][k], sides[1][k]
        z_TF = coder.encode(x_Td)
        wanted_TF = z_TF != 0  # the definition
        negative += int((z_TF < 0).sum())
        assert torch.equal(active(z_TF), wanted_TF)
        assert torch.equal(coder.fires(coder.pre(x_Td)), wanted_TF)

        def there(position_N, feature_N, n, like_TF=z_TF):
            on_TF = torch.zeros_like(like_TF[:n], dtype=torch.bool)
            on_TF[position_N, feature_N] = True
            return on_TF

        tracer = frozen.layers[k]
        assert torch.equal(there(tracer.position_N, tracer.feature_N, first), wanted_TF[:first])
        assert torch.allclose(tracer.value_N, z_TF[:first][tracer.position_N, tracer.feature_N])
        n = len(x_Td)
        row_N = torch.arange(n)
        pairs = CoderUnits(lm, coders).read(k, MlpAt(x_Td[None], y_Td[None], None, row_N, row_N))
        assert torch.equal(there(pairs.token_E, pairs.unit_E, n), wanted_TF)
        assert torch.allclose(pairs.value_E, z_TF[pairs.token_E, pairs.unit_E].abs())
        assert bool((pairs.value_E > 0).all())
        side = SimpleNamespace(transcoders=coders)
        cells = [SimpleNamespace(ids=range(n))]
        counted = activations(side, MlpIO(sides[0], sides[1], None), k, cells)  # all but the first token
        assert np.array_equal(counted.toarray() != 0, wanted_TF[1:].numpy())
        stream = LayerStream()
        none_N = torch.zeros(n, dtype=torch.int64)
        stream.add(y_Td, coder(x_Td), z_TF, none_N, none_N.bool())
        assert torch.equal(torch.as_tensor(stream.fired_F), wanted_TF.sum(0))
    assert (negative > 0) == (coders.kind == "jumprelu")


def test_training_selects_what_is_not_0():
    pre_TF = torch.randn(50, 30, generator=torch.Generator().manual_seed(0)) - 1.5
    for chosen in (select_tokens(pre_TF, 4), select_batch(pre_TF, 200)):
        assert bool(active(chosen.value_N).all()) and len(chosen.value_N) <= 200
    x_Td, y_Td = data()
    for kind in KINDS:
        layer = layer_trainer(KINDS[kind])
        code = layer.code(normalised(layer.memory, x_Td, y_Td)[0], 3)
        level = (
            code.threshold * (1 - 1e-6) if layer.cfg.kind == "batchtopk" else None
        )  # the threshold itself is
        counts_F = active(layer.folded(level).encode(x_Td)).sum(0)
        assert int(counts_F.sum()) > 2 * len(x_Td)
        assert int((code.fires_F - counts_F).abs().sum()) <= 2  # float32, in other units: one may round over


def test_l0_and_dead_are_of_active_features(lm, coders, texts, sides):
    found = layer_sums(lm, coders, texts, range(texts.n_cells))
    for k, coder in enumerate(coders.layers):
        on_TF = coder.encode(sides[0][k]) != 0
        n, wanted = len(on_TF), float(on_TF.sum(1).double().mean())
        silent = float((on_TF.sum(0) == 0).double().mean())
        assert l0(on_TF.sum(0), n) == pytest.approx(wanted, **TO_THE_DIGIT)
        assert found[k].l0 == pytest.approx(wanted, **TO_THE_DIGIT)
        assert float(dead(on_TF.sum(0)).double().mean()) == silent >= 2 / F
        assert found[k].dead == pytest.approx(silent, **TO_THE_DIGIT)
        stream = LayerStream()
        none_N = torch.zeros(n, dtype=torch.int64)
        x_Td, y_Td = sides[0][k], sides[1][k]
        stream.add(y_Td, coder(x_Td), coder.encode(x_Td), none_N, none_N.bool())
        assert stream.l0.total == pytest.approx(wanted, **TO_THE_DIGIT)
        assert float(stream.dead_F.mean()) == pytest.approx(silent, **TO_THE_DIGIT)
        often_F = on_TF.double().mean(0).log10() > -4
        assert np.array_equal(stream.live_F, often_F.numpy())
    assert np.isnan(l0(np.zeros(3), 0))


@pytest.mark.parametrize("n", [9_999, 10_000, 10_001])
def test_live_is_more_often_than_once_in_ten_thousand(n):
    assert live(np.array([0, 1, 2]), n).tolist() == [False, n < 10_000, True]
    assert dead(np.array([0, 1, 2])).tolist() == [True, False, False]


@pytest.mark.parametrize("far", [0.0, 50.0])
def test_variance_is_the_same_whole_in_batches_and_from_sums(far):
    y_Td = torch.randn(500, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) + far
    wanted = float(((y_Td - y_Td.mean(0)) ** 2).sum())
    spread = RunningVariance()
    for part_Td in y_Td.split([7, 200, 293]):
        spread.add(part_Td)
    from_sums = squares_from_sums(len(y_Td), y_Td.sum(0), y_Td.square().sum())
    for value in (squares_about_mean(y_Td), spread.squares, from_sums, squares_about_mean(y_Td.float())):
        assert float(value) == pytest.approx(wanted, **TO_THE_DIGIT)


def test_fvu_is_a_ratio_of_sums_for_everybody(lm, coders, texts, sides):
    found = layer_sums(lm, coders, texts, range(texts.n_cells))
    for k, coder in enumerate(coders.layers):
        x_Td, y_Td = sides[0][k], sides[1][k]
        guess_Td = coder(x_Td)
        error = float((y_Td - guess_Td).double().square().sum())
        wanted = error / float((y_Td - y_Td.double().mean(0)).square().sum())
        assert found[k].fvu == pytest.approx(wanted, **TO_THE_DIGIT)
        stream = LayerStream()
        for at in (slice(0, 11), slice(11, None)):
            none_N = torch.zeros(len(y_Td[at]), dtype=torch.int64)
            stream.add(y_Td[at], guess_Td[at], coder.encode(x_Td[at]), none_N, none_N.bool())
        assert stream.fvu == pytest.approx(wanted, **TO_THE_DIGIT)
        sums = torch.cat([torch.tensor([1.0, len(y_Td)]), y_Td.sum(0), y_Td.square().sum()[None]]).double()
        assert fvu(error, float(_whole(sums, 1).squares[0])) == pytest.approx(wanted, **TO_THE_DIGIT)
    n = len(sides[0])
    errors, spreads = np.zeros(n), [RunningVariance() for _ in range(n)]
    io = SimpleNamespace(inputs=[x[None] for x in sides[0]], outputs=[y[None] for y in sides[1]])
    real = SimpleNamespace(real_BT=torch.ones(1, len(sides[0][0])))
    _linear_error(io, real, dict(enumerate(coders.layers)), errors, spreads)
    for k in range(n):
        assert fvu(errors[k], spreads[k].squares) == pytest.approx(found[k].fvu, **TO_THE_DIGIT)
    assert np.isnan(fvu(1.0, 0.0))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("micro", [None, 3])
def test_a_training_steps_fvu_and_l0_are_the_definitions(kind, micro):
    layer, (x_Td, y_Td) = layer_trainer(KINDS[kind], LAYER_TRAIN), data()
    layer.memory["cut"] = torch.tensor(0.4)
    inner_x, inner_y = ((side - layer.memory[f"mean_{s}"]) / layer.memory[f"scale_{s}"]
                        for side, s in ((x_Td, "x"), (y_Td, "y")))  # fmt: skip
    with torch.no_grad():
        code = layer.code(inner_x, 3)
        error_Td = inner_y - layer.output(inner_x, code.write_TD)
    report = layer_step(layer, x_Td, y_Td, 3, torch.ones(T), StepPlan(micro=MicroBatch(micro)), CELLS)
    wanted = float(error_Td.square().sum() / (inner_y - inner_y.mean(0)).square().sum())
    assert report.fvu == pytest.approx(wanted, rel=1e-5)  # float32
    assert report.l0 == pytest.approx(float(code.fires_F.sum()) / T, **TO_THE_DIGIT)


def test_losses_are_the_plain_sums_for_everybody(lm, coders, texts):
    found = spliced(lm, coders, texts, range(texts.n_cells))
    ce, kl, n = dict.fromkeys(("orig", "transcoder", "zero"), 0.0), 0.0, 0
    ways = {"orig": {}, "transcoder": coders.stand_ins()}
    ways["zero"] = dict.fromkeys(range(lm.facts.n_layers), torch.zeros_like)
    for c in range(texts.n_cells):
        ids_1T, mask_1T = texts.batch(lm, [c])
        log_p = {}
        for name, stand_ins in ways.items():
            with torch.no_grad(), replaced_mlps(lm, stand_ins):
                log_p[name] = forward(lm, ids_1T, mask_1T)[0, :-1].double().log_softmax(-1)
            picked = log_p[name][torch.arange(ids_1T.shape[1] - 1), ids_1T[0, 1:]]
            ce[name] -= float(picked.sum())
            assert torch.equal(cross_entropy(log_p[name], ids_1T[0, 1:]), -picked)
        n += ids_1T.shape[1] - 1
        p, q = log_p["orig"], log_p["transcoder"]
        plain_N = (p.exp() * (p - q)).sum(-1)
        kl += float(plain_N.sum())
        for same in ({}, {"p_NV": p.exp()}, {"p_NV": p.exp(), "out": q.clone()}):
            assert torch.allclose(kl_divergence(p, q, **same), plain_N, rtol=1e-9, atol=1e-12)
    for name, total in ce.items():
        assert getattr(found, f"ce_{name}") == pytest.approx(total / n, rel=1e-5)
    assert found.kl == pytest.approx(kl / n, rel=1e-5)
    assert found.ce_recovered == pytest.approx(
        (ce["zero"] - ce["transcoder"]) / (ce["zero"] - ce["orig"]), rel=1e-4
    )


def test_the_validations_losses_are_the_same_functions(lm):
    generator = torch.Generator().manual_seed(4)
    own, other = (torch.randn(9, lm.facts.width, generator=generator).to(lm.dtype) for _ in range(2))
    target_N = torch.arange(9)
    ((ce_N, kl_N),) = token_losses(lm, [own], target_N, other)
    log_q, log_p = (lm.model.get_output_embeddings()(h).log_softmax(-1) for h in (own, other))
    assert torch.allclose(ce_N, cross_entropy(log_q, target_N).double())
    assert torch.allclose(kl_N, kl_divergence(log_p, log_q).double())


def test_ce_recovered():
    assert ce_recovered(12.67, 4.63, 2.48) == pytest.approx(0.789, abs=1e-3)  # the seed paper's figures
    assert Spliced(2.48, 4.63, 12.67, 0.0).ce_recovered == ce_recovered(12.67, 4.63, 2.48)
    assert ce_recovered(3.0, 5.0, 2.0) == -2.0  # never clipped
    assert np.isnan(ce_recovered(2.0, 2.0, 2.0))
    both = ce_recovered(np.array([4.0, 2.0]), np.array([3.0, 2.0]), np.array([2.0, 2.0]))
    assert both[0] == 0.5 and np.isnan(both[1])


def test_labels_that_stay():
    answers = Answers(("a", "b"), "")
    answers._truth = [np.array([0, 0, 1, 1])]
    answers._labels = {ORIGINAL: [np.array([0, 1, 1, 1])], TRANSCODER: [np.array([0, 1, 0, 1])]}
    assert answers.agreement(TRANSCODER) == 0.75 == float(answers.same_label_C(TRANSCODER).mean())
    assert answers.accuracy(TRANSCODER) == 0.5 == float(answers.right_C(TRANSCODER).mean())
    assert agreement(["x", "y"], ["x", "z"]) == 0.5 and np.isnan(agreement([], []))


# Signs that a figure is worked out a second time. The circuits' own `recovered` is another figure.
SECOND = {
    "KL": r"exp\(\) \* \((\w+) - \w+\)\)\.sum|log_softmax.*\bkl_div\b|\bkl_div\(",
    "FVU": r"\.square\(\)\.sum\([^)]*\) / \w*(variance|squares|spread)|error / variance|square / variance",
    "squares about the mean": r"\(y_\w+ - y_\w+\.mean\(0\)\)\.square\(\)",
    "CE recovered": r"zero\w* - \w+\) / \(\w*zero|t\[:, 0\] - t\[:, 1\]\) / \(t\[:, 0\]",
    "live": r"10\.0 ?\*\* ?-4|log10.*> -4",
    "active": r"\bz_\w+(\.detach\(\))? (> 0|!= 0)\b|threshold_F\.clamp",
    "agreement": r"found == said|same_label_C\([A-Z]+\)\.mean",
}


@pytest.mark.parametrize("figure", SECOND)
def test_nobody_works_a_figure_out_a_second_time(figure):
    root = Path(scx_core.__path__[0])
    dense = root / "atlas" / "collect"  # the positive part of raw neurons, no transcoder's feature
    found = [
        f"{path.relative_to(root)}:{n}: {line.strip()}"
        for path in root.rglob("*.py")
        if path.parent.name != "metrics" and not path.is_relative_to(dense)
        for n, line in enumerate(path.read_text().splitlines(), 1)
        if re.search(SECOND[figure], line)
    ]
    assert not found
