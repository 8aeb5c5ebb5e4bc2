"""The validation table: identities that must hold, and a slow reference."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from scx_core.errors import ScxError
from scx_core.language import answer_form, answers_of, encode_cells
from scx_core.statistics.intervals import wilson
from scx_core.transcoders import Transcoder, TranscoderSet
from scx_core.transcoders.check import opened_as_is
from scx_core.validation import BASELINES, draw_rows, linear_maps, validate, validation_work, verdict, work
from scx_core.validation.label_agreement import expression, logistic_labels
from scx_core.validation.result import ABOVE_ONE, NO_LOSS, layer_mark, layer_words
from scx_core.validation.work import LAYER_SEED, cells_alone, fit_cells
from tests.tiny import LABELS, tiny_language, tiny_table
from tests.validation import reference
from tests.validation.sets import constant_set, exact_set, random_set

TABLE = tiny_table(13)
NEAR = 1e-6  # attention's softmax is float32 in any model, and its rounding may depend on the padding
ROWS = np.array([0, 3, 4, 5, 7, 8, 9, 11, 12])
KEYS = {
    "ce_orig", "ce_transcoder", "ce_zero", "ce_mean", "ce_recovered", "kl", "l0", "fvu", "dead",
    "label_accuracy_orig", "label_accuracy_transcoder", "label_agreement", "per_layer", "by_token_class",
}  # fmt: skip


@pytest.fixture(scope="module", params=["parallel", "sequential"])
def lm(request, tmp_path_factory):
    return tiny_language(tmp_path_factory.mktemp("lm"), parallel=request.param == "parallel", act="relu")


@pytest.fixture(scope="module")
def found(lm):
    return validate(lm, random_set(lm), TABLE, ROWS, batch=4)


@pytest.fixture(scope="module")
def texts(lm):
    cfg = lm.sentence_config
    return [
        reference.text_of(
            lm, reference.slow_sentence(TABLE, row, cfg.n_genes, cfg.tie_seed), TABLE.labels[row]
        )
        for row in ROWS
    ]


def numbers(found) -> list[float]:
    """Every number of a validation table, in a fixed order."""
    flat = []

    def walk(value):
        if isinstance(value, dict):
            [walk(value[key]) for key in sorted(value)]
        elif isinstance(value, list):
            [walk(item) for item in value]
        elif isinstance(value, (int, float)):
            flat.append(value)
        elif value is None:
            flat.append(-1.0)

    walk({key: value for key, value in found.to_json().items() if key not in ("warnings", "provenance")})
    return flat


def test_exact_transcoders_change_nothing(lm):
    exact = validate(lm, exact_set(lm), TABLE, ROWS)
    assert abs(exact.kl) < 1e-10
    assert exact.ce_transcoder == pytest.approx(exact.ce_orig, abs=1e-10)
    assert exact.ce_recovered == pytest.approx(1, abs=NEAR)
    assert 0 <= exact.fvu < 1e-25
    assert exact.label_agreement == 1
    assert exact.label_accuracy_transcoder == exact.label_accuracy_orig
    assert exact.confusion.original == exact.confusion.transcoder
    for row in exact.per_layer:
        assert abs(row.kl) < 1e-10
        assert row.ce_recovered == pytest.approx(1, abs=NEAR)


def test_zero_transcoders_are_the_zero_baseline(lm):
    zeros = [torch.zeros(lm.facts.width)] * lm.facts.n_layers
    nothing = validate(lm, constant_set(lm, zeros), TABLE, ROWS)
    assert nothing.ce_transcoder == nothing.ce_zero
    assert nothing.ce_recovered == 0
    assert (nothing.l0, nothing.dead, nothing.live_share) == (0, 1, 0)
    for row in nothing.per_layer:
        assert row.ce == row.ce_zero
        assert math.isnan(row.prompt_mass)


def test_transcoders_that_write_the_mean_are_the_mean_baseline(lm, texts):
    ids = [ids for ids, _ in texts]
    means = [reference.mlp_pairs(lm, ids, k)[1].mean(0) for k in range(lm.facts.n_layers)]
    mean = validate(lm, constant_set(lm, means), TABLE, ROWS, batch=4)
    assert mean.ce_transcoder == pytest.approx(mean.ce_mean, abs=NEAR)
    assert mean.fvu == pytest.approx(1, abs=NEAR)
    assert mean.ce_mean != pytest.approx(mean.ce_zero, abs=1e-3)


def test_batch_size_and_padding_change_nothing(lm, found):
    assert len({len(cell) for cell in [reference.slow_sentence(TABLE, row, 12, 1) for row in ROWS]}) > 1
    for batch in (1, 7):
        again = validate(lm, random_set(lm), TABLE, ROWS, batch=batch)
        np.testing.assert_allclose(numbers(again), numbers(found), rtol=0, atol=NEAR)


def test_order_of_the_cells_changes_nothing(lm, found):
    again = validate(lm, random_set(lm), TABLE, ROWS[::-1], batch=4)
    np.testing.assert_allclose(numbers(again), numbers(found), rtol=0, atol=NEAR)


def test_classes_weighted_by_their_tokens_add_up(found):
    rows = found.by_token_class
    assert list(rows) == ["prompt", "gene", "answer"]
    assert sum(row.n_tokens for row in rows.values()) == found.n_tokens
    for name in ("ce_orig", "ce_transcoder", "ce_zero", "ce_mean", "kl"):
        total = sum(getattr(row, name) * row.n_tokens for row in rows.values()) / found.n_tokens
        assert total == pytest.approx(getattr(found, name), abs=1e-12)


def test_losses_equal_the_slow_reference(lm, found, texts):
    coders, n = random_set(lm).layers, lm.facts.n_layers
    conditions = {
        "orig": {},
        "transcoder": dict(enumerate(coders)),
        "zero": dict.fromkeys(range(n), torch.zeros_like),
    }
    for name, functions in conditions.items():
        ce, kl, kinds = reference.losses(lm, texts, functions)
        assert len(ce) == found.n_tokens
        assert getattr(found, f"ce_{name}") == pytest.approx(ce.mean(), abs=NEAR)
        for kind, row in found.by_token_class.items():
            assert getattr(row, f"ce_{name}") == pytest.approx(ce[kinds == kind].mean(), abs=NEAR)
            if name == "transcoder":
                assert row.kl == pytest.approx(kl[kinds == kind].mean(), abs=NEAR)
    assert found.ce_recovered == pytest.approx(
        (found.ce_zero - found.ce_transcoder) / (found.ce_zero - found.ce_orig), abs=1e-12
    )


def test_losses_are_of_the_capped_logits_where_a_model_caps_them(tmp_path):
    lm = tiny_language(tmp_path, family="gemma2")
    assert lm.facts.logit_cap
    cells, answers = encode_cells(lm, TABLE, ROWS[:3]), answers_of(lm, LABELS, answer_form(lm, TABLE).lead)
    own = []
    for cell, row in zip(cells, ROWS, strict=False):
        ids = torch.tensor([[*cell.ids, *answers[str(TABLE.labels[row])], lm.eos_id]])
        with torch.no_grad():
            log_TV = lm.model(ids[:, :-1]).logits[0].double().log_softmax(-1)
        own.append(-log_TV.gather(1, ids[0, 1:, None])[:, 0])
    found = validate(lm, random_set(lm), TABLE, ROWS[:3], per_layer=False)
    assert found.ce_orig == pytest.approx(float(torch.cat(own).mean()), abs=NEAR)


def test_single_layers_equal_the_slow_reference(lm, found, texts):
    coders = random_set(lm).layers
    ids = [ids for ids, _ in texts]
    for row in found.per_layer:
        ce, kl, _ = reference.losses(lm, texts, {row.layer: coders[row.layer]})
        zero, _, _ = reference.losses(lm, texts, {row.layer: torch.zeros_like})
        assert row.ce == pytest.approx(ce.mean(), abs=NEAR)
        assert row.kl == pytest.approx(kl.mean(), abs=NEAR)
        assert row.ce_zero == pytest.approx(zero.mean(), abs=NEAR)
        assert row.ce_recovered == pytest.approx(
            (row.ce_zero - row.ce) / (row.ce_zero - found.ce_orig), abs=NEAR
        )
        x_Nd, y_Nd = reference.mlp_pairs(lm, ids, row.layer)
        z_NF = coders[row.layer].encode(x_Nd)
        fvu = (y_Nd - coders[row.layer](x_Nd)).square().sum() / (y_Nd - y_Nd.mean(0)).square().sum()
        assert row.fvu == pytest.approx(float(fvu), abs=NEAR)
        assert row.l0 == pytest.approx(float((z_NF > 0).sum(1).double().mean()), abs=1e-12)
        assert row.dead == float((z_NF.amax(0) == 0).double().mean()) >= 2 / 40
        kinds = np.concatenate([classes[:-1] for _, classes in texts])
        first = np.concatenate([np.arange(len(classes) - 1) == 0 for _, classes in texts])
        mass_N = z_NF.sum(1).numpy() * ~first
        assert row.prompt_mass == pytest.approx(mass_N[kinds == "prompt"].sum() / mass_N.sum(), abs=NEAR)
    for kind, row in found.by_token_class.items():
        here = [
            coders[k].encode(reference.mlp_pairs(lm, ids, k)[0])[kinds == kind] for k in range(len(coders))
        ]
        assert row.l0 == pytest.approx(
            float(np.mean([(z > 0).sum(1).double().mean() for z in here])), abs=1e-12
        )
    assert found.fvu == pytest.approx(np.mean([row.fvu for row in found.per_layer]), abs=1e-12)
    assert found.l0 == pytest.approx(np.mean([row.l0 for row in found.per_layer]), abs=1e-12)


def test_labels_equal_the_slow_reference(lm, found, texts):
    functions = dict(enumerate(random_set(lm).layers))
    before, after = [], []
    for ids, kinds in texts:
        prompt = ids[: kinds.index("answer")]
        before.append(reference.best_label(lm, prompt, LABELS))
        after.append(reference.best_label(lm, prompt, LABELS, functions))
    truth = TABLE.labels[ROWS]
    assert found.label_accuracy_orig == pytest.approx(np.mean(np.array(before) == truth))
    assert found.label_accuracy_transcoder == pytest.approx(np.mean(np.array(after) == truth))
    assert found.label_agreement == pytest.approx(np.mean(np.array(before) == np.array(after)))
    table = np.zeros((len(LABELS), len(LABELS)), dtype=int)
    for true, guess in zip(truth, after, strict=True):
        table[LABELS.index(true), LABELS.index(guess)] += 1
    assert found.confusion.labels == LABELS
    assert np.array_equal(found.confusion.transcoder, table)


def test_skip_term_is_part_of_the_stand_in(lm, found):
    skip_dd = 0.1 * torch.eye(lm.facts.width, dtype=lm.dtype)
    plain = random_set(lm)
    layers = tuple(dataclasses.replace(layer, W_skip_dd=skip_dd) for layer in plain.layers)
    with_skip = validate(lm, dataclasses.replace(plain, layers=layers), TABLE, ROWS)
    assert with_skip.fvu != pytest.approx(found.fvu, rel=1e-3)
    assert with_skip.ce_transcoder != pytest.approx(found.ce_transcoder, rel=1e-4)
    assert with_skip.l0 == pytest.approx(found.l0)


def test_json_has_the_promised_keys_and_no_nan(lm, found):
    record = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert set(record) >= KEYS
    assert [row["layer"] for row in record["per_layer"]] == [0, 1]
    quick = validate(lm, random_set(lm), TABLE, ROWS[:2], per_layer=False)
    assert math.isnan(quick.per_layer[0].ce)
    assert json.loads(json.dumps(quick.to_json(), allow_nan=False))["per_layer"][0]["ce"] is None
    assert quick.per_layer[0].fvu > 0


def test_same_inputs_give_the_same_record(lm, found):
    assert validate(lm, random_set(lm), TABLE, ROWS, batch=4).to_json() == found.to_json()


def test_progress_goes_twice_over_the_cells(lm):
    seen = []
    validate(
        lm,
        random_set(lm),
        TABLE,
        ROWS[:5],
        batch=2,
        per_layer=False,
        progress=lambda *step: seen.append(step),
    )
    assert [(done, total) for done, total, _ in seen] == [(2, 5), (4, 5), (5, 5)] * 2


def test_chunks_of_the_vocabulary_change_nothing(lm, found, monkeypatch):
    monkeypatch.setattr("scx_core.training.objective.losses.CHUNK_LOGITS", 1000)
    again = validate(lm, random_set(lm), TABLE, ROWS, batch=4)
    np.testing.assert_allclose(numbers(again), numbers(found), rtol=0, atol=NEAR)


def test_float32_gives_the_same_figures(lm, found, tmp_path):
    single = tiny_language(tmp_path, dtype="float32", parallel=lm.facts.residual == "parallel", act="relu")
    again = validate(single, random_set(single), TABLE, ROWS)
    assert again.ce_transcoder == pytest.approx(found.ce_transcoder, rel=1e-4)
    assert again.fvu == pytest.approx(found.fvu, rel=1e-4)


def test_mistakes_are_named(lm, tmp_path):
    coders = random_set(lm)
    with pytest.raises(ScxError, match="no held-out cells"):
        validate(lm, coders, TABLE, [])
    blank = tiny_table(3)
    blank.labels[1] = ""
    with pytest.raises(ScxError, match="have no label, such as row 1"):
        validate(lm, coders, blank, [0, 1])
    with pytest.raises(ScxError, match="has 1 layers of width 16"):
        validate(lm, dataclasses.replace(coders, layers=coders.layers[:1]), TABLE, ROWS)


def test_types_without_an_answer_are_told_and_not_scored(lm):
    strange = tiny_table(6)
    strange.labels[:] = [f"Type {c % 2}" for c in range(6)]
    with pytest.raises(ScxError, match="no answer for 'Type 0'"):
        validate(lm, random_set(lm), strange, np.arange(6), per_layer=False)
    strange.given_answers = {"Type 0": LABELS[0], "Type 1": LABELS[2]}
    found = validate(lm, random_set(lm), strange, np.arange(6), per_layer=False)
    assert found.confusion.labels == tuple(lm.labels)
    assert np.sum(found.confusion.original) == 6 and sum(found.confusion.original[0]) == 3


def test_a_set_of_another_text_is_refused_or_marked(lm):
    coders = random_set(lm)
    other = replace(coders, meta={**coders.meta, "sentences": {"n_genes": 5, "tie_seed": 1, "prompt": "scx"}})
    with pytest.raises(ScxError, match="another text .*n_genes 5 there, 12 here"):
        validate(lm, other, TABLE, ROWS, per_layer=False)
    marked = opened_as_is(lm, other)
    assert marked.meta["as_is"] == {"n_genes": {"trained": 5, "used": 12}}
    assert validate(lm, marked, TABLE, ROWS, per_layer=False).n_cells == len(ROWS)


def test_saes_are_given_the_outputs_and_named(lm):
    eye_dd = torch.eye(lm.facts.width, dtype=lm.dtype)
    both_Fd = torch.cat([eye_dd, -eye_dd])
    layer = Transcoder(both_Fd, 0 * both_Fd[:, 0], both_Fd, 0 * both_Fd[0])
    exact = validate(lm, TranscoderSet((layer,) * lm.facts.n_layers, reads="output"), TABLE, ROWS)
    assert exact.form == "sae" and exact.to_json()["form"] == "sae"
    assert exact.kl == pytest.approx(0, abs=1e-9) and exact.fvu < 1e-12
    assert "SAEs" in verdict(exact) and "transcoders of one MLP" in verdict(exact)
    assert all(abs(row.kl) < 1e-9 for row in exact.per_layer)


TRAIN = np.array([1, 2, 6, 10])


@pytest.fixture(scope="module")
def beside(lm):
    return validate(lm, random_set(lm), TABLE, ROWS, train_rows=TRAIN, split="as it is", batch=4)


def test_baselines_equal_the_slow_reference(lm, beside, texts):
    """CE, KL and labels of the linear maps, each text and each answer read on its own."""
    maps = dict(enumerate(linear_maps(lm, TABLE, TRAIN)))
    row = next(row for row in beside.baselines if row.key == "linear")
    ce, kl, _ = reference.losses(lm, texts, maps)
    assert row.ce == pytest.approx(ce.mean(), abs=NEAR) and row.kl == pytest.approx(kl.mean(), abs=NEAR)
    zero = (beside.ce_zero - row.ce) / (beside.ce_zero - beside.ce_orig)
    assert row.ce_recovered == pytest.approx(zero, abs=NEAR)
    cells = encode_cells(lm, TABLE, ROWS)
    said = [
        [reference.best_label(lm, list(cell.ids), lm.labels, functions) for cell in cells]
        for functions in (None, maps)
    ]
    assert row.label_agreement == np.mean([a == b for a, b in zip(*said, strict=True)])
    assert row.label_accuracy == np.mean(np.array(said[1]) == TABLE.labels[ROWS])
    assert row.intervals["label_accuracy"] == wilson(round(row.label_accuracy * 9), 9)


def test_the_other_figures_do_not_move_when_baselines_stand_beside(found, beside):
    assert beside.baselines and not found.baselines and found.added is None
    for key in KEYS - {"per_layer", "by_token_class"}:
        assert getattr(beside, key) == pytest.approx(getattr(found, key), abs=1e-12)
    assert beside.split == "as it is" and "no donors" in beside.drawn_over


def test_intervals_hold_their_figures_and_balanced_accuracy_is_the_mean_recall(beside):
    for name, interval in beside.intervals.items():
        assert interval.low <= getattr(beside, name) <= interval.high, name
    table = np.array(beside.confusion.original)
    there = table.sum(1) > 0
    assert beside.balanced_accuracy_orig == pytest.approx(
        (table.diagonal() / table.sum(1).clip(1))[there].mean()
    )


def test_a_set_that_is_the_linear_maps_adds_nothing(lm):
    """Transcoders whose affine path is the least-squares map and whose features are silent."""
    maps = linear_maps(lm, TABLE, TRAIN)
    layers = [
        dataclasses.replace(coder, b_dec_d=fitted.b_d, W_skip_dd=fitted.W_dd)
        for coder, fitted in zip(constant_set(lm, [fitted.b_d for fitted in maps]).layers, maps, strict=True)
    ]
    same = validate(lm, TranscoderSet(tuple(layers)), TABLE, ROWS, train_rows=TRAIN, per_layer=False)
    rows = {row.key: row for row in same.baselines}
    assert set(rows) == set(BASELINES)
    for key in ("linear", "skip", "features_mean"):
        assert rows[key].ce == pytest.approx(same.ce_transcoder, abs=NEAR)
        assert rows[key].label_agreement == same.label_agreement
    assert not same.added.won_back > NEAR and same.added.accuracy_gain == 0
    assert same.added.needed != "yes" and "can be read" not in verdict(same)


def test_an_exact_set_wins_all_back(lm):
    exact = validate(lm, exact_set(lm), TABLE, ROWS, train_rows=TRAIN, per_layer=False)
    best = min(exact.baselines, key=lambda row: row.ce)
    assert exact.added.best == best.key
    if best.ce > exact.ce_orig:
        assert exact.added.won_back == pytest.approx(1, abs=NEAR)
    else:  # an untrained model may predict better with other MLPs: then nothing is left to win
        assert math.isnan(exact.added.won_back)
    assert exact.added.agreement_gain == 1 - max(row.label_agreement for row in exact.baselines)


def test_cells_that_test_are_never_fitted_on(lm):
    with pytest.raises(ScxError, match="cells that test"):
        validate(lm, random_set(lm), TABLE, ROWS, train_rows=ROWS[:1])


def test_donors_are_drawn_where_they_are_known(lm, beside):
    table = dataclasses.replace(TABLE, donors=np.array(list("aabbccddeeffg"), dtype=object))
    found = validate(lm, random_set(lm), table, ROWS, train_rows=TRAIN, per_layer=False)
    assert found.drawn_over == "7 donors" and "9 cells" in beside.drawn_over
    assert found.kl == pytest.approx(beside.kl, abs=1e-12)
    assert found.intervals["kl"] != beside.intervals["kl"]


def test_logistic_regression_is_scikit_learns_and_learns_what_is_linear(beside):
    table = tiny_table(60, seed=1)
    said, n = logistic_labels(table, np.arange(40), np.arange(40, 60))
    assert n == 40 and np.mean(said == table.labels[40:60]) > 0.8
    assert logistic_labels(table, np.array([0, 5]), np.arange(3)) is None, "one label only"
    assert beside.logistic.n_train == 4 and beside.logistic.n_genes == TABLE.n_genes
    counts = table.rows([0, 1]).toarray()
    wanted = np.log1p(1e4 * counts / counts.sum(1, keepdims=True))
    np.testing.assert_allclose(expression(table, [0, 1]).toarray(), wanted, rtol=1e-6)


def test_layers_alone_on_a_sample_are_those_cells_of_the_whole(lm):
    """The rows of a sample are those of a validation on the drawn cells; all else is of all cells."""
    coders = random_set(lm)
    some = validate(lm, coders, TABLE, ROWS, layer_cells=3)
    drawn = validate(lm, coders, TABLE, draw_rows(ROWS, 3, LAYER_SEED))
    assert (some.n_cells, some.layer_cells, drawn.layer_cells) == (len(ROWS), 3, 3)
    assert some.layer_tokens == drawn.n_tokens
    for one, other in zip(some.per_layer, drawn.per_layer, strict=True):
        for name in ("ce", "ce_zero", "kl", "ce_recovered"):
            assert getattr(one, name) == pytest.approx(getattr(other, name), abs=NEAR)
    whole = validate(lm, coders, TABLE, ROWS, per_layer=False)
    assert [row.fvu for row in some.per_layer] == [row.fvu for row in whole.per_layer]
    assert (whole.layer_cells, whole.layer_words) == (0, "")
    assert "a sample of 3 of the 9 test cells" in some.layer_words


def test_by_default_long_parts_are_done_on_a_sample(lm, monkeypatch):
    assert cells_alone(lm, TABLE, ROWS) == len(ROWS)
    assert fit_cells(lm, TABLE, TRAIN) == len(TRAIN)
    monkeypatch.setattr(work, "LONG", 1.0)
    monkeypatch.setattr(work, "ENOUGH_TOKENS", 1)
    assert cells_alone(lm, TABLE, ROWS) == 1
    found = validate(lm, random_set(lm), TABLE, ROWS, train_rows=TRAIN)
    assert found.layer_cells == 1
    assert 1 <= found.fit_cells < len(TRAIN)
    assert "a sample of 1 of" in found.layer_words


def test_what_it_takes_is_said_before(lm):
    told = validation_work(lm, random_set(lm), TABLE, ROWS, fit=TRAIN, layer_cells=2)
    assert (told.cells, told.layer_cells, told.fit_cells) == (len(ROWS), 2, len(TRAIN))
    assert 0 < told.seconds == pytest.approx(sum(told.parts.values()))
    more = validation_work(lm, random_set(lm), TABLE, ROWS, per_layer=False)
    assert (more.layer_cells, more.fit_cells) == (0, 0)
    assert set(told.parts) - set(more.parts) == {"each layer alone", "baselines"}
    assert "9 test cells" in told.words()
    assert "each layer alone on 2 of them" in told.words()


def test_a_layer_that_costs_nothing_is_marked():
    assert layer_mark(3.0, 2.0, 1.0) == ""
    assert layer_mark(3.0, 0.9, 1.0) == ABOVE_ONE
    assert layer_mark(1.0, 1.1, 1.0) == NO_LOSS
    assert layer_mark(math.nan, math.nan, math.nan) == ""
    words = layer_words(9, 2, [(2.0, ""), (0.9, ABOVE_ONE), (0.8, ABOVE_ONE)])
    assert "Layers 1, 2 above 1" in words
