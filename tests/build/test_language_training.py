"""The small model's training: order of the cells, exact resume, and what it writes."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from scx_core.build.language_training import train_model
from scx_core.build.recipe import (
    RecipeConfig,
    Thinned,
    cells_of_step,
    make_optimizer,
    new_model,
    training_batch,
)
from scx_core.errors import ScxError
from scx_core.runs import RunFolder, read_jsonl
from scx_core.sentences import SentenceConfig, make_prompt
from tests.tiny import N_GENES, tiny_table, tiny_tokenizer

TINY = RecipeConfig(width=16, layers=1, heads=2, vocabulary=320, readings=24, batch=4)
SENTENCES = SentenceConfig(n_genes=N_GENES)


@given(st.integers(1, 40), st.integers(1, 9), st.integers(0, 5))
def test_every_pass_reads_every_cell_once(n_rows, batch, seed):
    cfg, rows = replace(TINY, batch=batch, seed=seed), np.arange(100, 100 + n_rows)
    read = [cell for step in range(-(-3 * n_rows // batch)) for cell in cells_of_step(rows, cfg, step)]
    for number in range(3):
        seen = Counter(row for row, passed in read[: 3 * n_rows] if passed == number)
        assert seen == Counter(rows.tolist())


def test_a_batch_depends_on_its_step_alone():
    table, tokenizer, prompt = tiny_table(10), tiny_tokenizer(), make_prompt("scx")

    def make(step):
        return training_batch(table, np.arange(10), tokenizer, prompt, SENTENCES, TINY, step)

    first, again, other = make(3), make(3), make(4)
    assert torch.equal(first.ids_BT, again.ids_BT)
    assert not torch.equal(first.ids_BT, other.ids_BT)
    answers = [
        tokenizer.decode(ids[weight > 1]) for ids, weight in zip(first.ids_BT, first.weight_BT, strict=True)
    ]
    assert all(any(label in answer for label in table.types) for answer in answers)


def test_thinning_leaves_out_counts_anew_and_never_all_of_them():
    table = tiny_table(10)
    full_CG, rows = table.rows(np.arange(10)), np.arange(10)
    thin = Thinned(table, 0.8, np.random.default_rng(0))
    first_CG, second_CG = thin.rows(rows), thin.rows(rows)
    assert ((full_CG - first_CG).toarray() >= 0).all()
    assert (first_CG != second_CG).nnz > 0
    kept = np.asarray(first_CG.sum(1)).ravel() / np.asarray(full_CG.sum(1)).ravel()
    assert (kept > 0).all() and 0.4 < kept.mean() < 0.8
    with pytest.raises(ScxError, match="only counts"):
        Thinned(replace(table, values_kind="log-normalised"), 0.8, np.random.default_rng(0)).rows(rows)


def _train(folder, stop_after=None, watched=()):
    run = (
        RunFolder.open(folder / "run")
        if (folder / "run").exists()
        else RunFolder.create(folder, "build", {}, "run")
    )
    calls = iter(range(1000))
    lm = train_model(
        run,
        tiny_table(20),
        np.arange(20),
        folder / "model",
        TINY,
        SENTENCES,
        name="tiny",
        watched=watched,
        stopped=lambda: stop_after is not None and next(calls) + 1 == stop_after,
    )
    return lm, run


def test_stopped_and_resumed_training_ends_with_the_same_bits(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    whole, run = _train(tmp_path / "a")
    assert _train(tmp_path / "b", stop_after=2)[0] is None
    assert not (tmp_path / "b" / "model").exists()
    resumed, other = _train(tmp_path / "b")
    one, two = (load_file(tmp_path / name / "model" / "model.safetensors") for name in "ab")
    assert one.keys() == two.keys()
    assert all(torch.equal(one[key], two[key]) for key in one)
    steps = [record["step"] for record in read_jsonl(other.path / "metrics.jsonl")]
    assert steps == list(range(1, TINY.steps + 1))
    assert run.metrics() == other.metrics()
    assert resumed.labels == whole.labels == tiny_table(20).types
    assert resumed.sentence_config == SENTENCES


def test_the_block_form_activation_and_start_are_as_asked():
    plain, other = (
        new_model(cfg, 330, 64)
        for cfg in (TINY, replace(TINY, residual="sequential", activation="relu", mlp_start=3.0))
    )
    assert plain.config.use_parallel_residual and not other.config.use_parallel_residual
    assert plain.config.hidden_act == "gelu" and other.config.hidden_act == "relu"
    one, two = (model.gpt_neox.layers[0].mlp.dense_h_to_4h.weight for model in (plain, other))
    assert torch.allclose(3 * one, two)


def test_uniform_attention_stays_uniform_while_the_rest_is_trained():
    cfg = replace(TINY, attention="uniform", layers=2)
    model = new_model(cfg, 330, 64).train()
    optimizer = make_optimizer(model, cfg)
    before = model.gpt_neox.layers[1].attention.query_key_value.weight.detach().clone()
    ids_BT = torch.randint(330, (2, 12), generator=torch.Generator().manual_seed(0))
    for _ in range(3):
        optimizer.zero_grad()
        model(ids_BT, labels=ids_BT).loss.backward()
        optimizer.step()
    assert not torch.equal(before, model.gpt_neox.layers[1].attention.query_key_value.weight)
    model.set_attn_implementation("eager")
    patterns = model.eval()(ids_BT, output_attentions=True).attentions
    even_TT = torch.tril(torch.ones(12, 12)) / torch.arange(1, 13)[:, None]
    assert all(torch.allclose(pattern, even_TT.expand_as(pattern), atol=1e-6) for pattern in patterns)


def test_attention_can_have_a_weight_decay_of_its_own():
    model = new_model(TINY, 330, 64)
    assert {group["weight_decay"] for group in make_optimizer(model, TINY).param_groups} == {0.1, 0.0}
    groups = make_optimizer(model, replace(TINY, attention_decay=0.5)).param_groups
    sizes = {group["weight_decay"]: sum(p.numel() for p in group["params"]) for group in groups}
    assert sizes[0.5] == sum(
        p.numel() for name, p in model.named_parameters() if ".attention." in name and p.ndim >= 2
    )
    assert sum(sizes.values()) == sum(p.numel() for p in model.parameters())


def test_cells_that_are_watched_change_nothing_and_their_accuracy_is_logged(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
    _train(tmp_path / "a")
    _, run = _train(tmp_path / "b", watched=np.arange(5))
    one, two = (load_file(tmp_path / name / "model" / "model.safetensors") for name in "ab")
    assert all(torch.equal(one[key], two[key]) for key in one)
    shares = [record["accuracy"] for record in run.metrics() if "accuracy" in record]
    assert shares and all(0 <= share <= 1 and (5 * share) % 1 == 0 for share in shares)
    last = run.metrics()[-1]
    assert last["watched"] == 5 and 0.2 <= last["one_answer"] <= 1, "a share stands beside its simplest rival"
