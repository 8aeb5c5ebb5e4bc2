"""What a model writes when it may write anything, and whether that is a label."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from scx_core.cells import open_cells
from scx_core.language import (
    load_language,
    map_labels,
    raw_answers,
    shortened,
    suggest_answers,
    terms_of,
    text_warnings,
)
from scx_core.language.cell_texts import encode_cells
from scx_core.language.raw_answers import generate, parse, stop_tokens
from scx_core.sentences import prompts
from scx_core.statistics.intervals import wilson
from tests.language.checkpoints import gemma_folder
from tests.tiny import tiny_cells, tiny_language, tiny_table


@pytest.mark.parametrize("family", ["gpt_neox", "gpt2", "gemma2"])
def test_a_batch_writes_what_each_prompt_alone_would(family, tmp_path):
    lm = tiny_language(tmp_path, family=family)
    prompts = [cell.ids for cell in tiny_cells(lm)]
    assert len({len(ids) for ids in prompts}) > 1  # padded on the left
    for ids, (text, ended) in zip(prompts, generate(lm, prompts, 6), strict=True):
        written: list[int] = []
        while len(written) < 6 and (not written or written[-1] not in stop_tokens(lm)):
            with torch.no_grad():
                logits = lm.model(torch.tensor([[*ids, *written]])).logits[0, -1]
            written.append(int(logits.argmax()))
        stopped = written[-1] in stop_tokens(lm)
        assert text == lm.tokenizer.decode(written[:-1] if stopped else written)
        assert bool(ended) == stopped


def test_an_answer_is_a_label_by_its_spelling_alone():
    labels = ["B cell", "b cell", "NK cell", "classical monocyte"]
    assert parse(" B cell.", labels) == "B cell" and parse("b cell", labels) == "b cell"
    assert parse("B CELL", labels) == ""  # two differ in case alone
    assert parse("nk Cell .", labels) == "NK cell"
    assert parse("NK cell. It is", labels) == parse("NK", labels) == parse("", labels) == ""


def test_the_embedded_model_writes_labels_and_a_model_without_training_does_not(tmp_path):
    lm, cells = load_language("embedded"), open_cells("embedded")
    found = raw_answers(lm, cells, cells=10)
    assert found.n == 10 and found.k >= 9 and found.interval == wilson(found.k, 10)
    assert not found.warning and f"{found.k} of 10" in found.words
    assert all(one.text.startswith(found.form.lead) for one in found.answers)
    assert sum(one.ended == "<|endoftext|>" for one in found.answers) >= 9
    assert found.prompt == lm.tokenizer.decode(list(encode_cells(lm, cells, [found.answers[0].row])[0].ids))
    assert [one.row for one in raw_answers(lm, cells, cells=10).answers] == [one.row for one in found.answers]
    random = raw_answers(tiny_language(tmp_path), tiny_table(20), cells=16)
    assert random.k < 8 and "Fewer than half" in random.warning
    assert random.interval.high < 0.8 and f"{random.k} of 16" in random.words


def test_what_is_right_stands_beside_one_answer_for_all():
    lm, cells = load_language("embedded"), open_cells("embedded")
    other = replace(cells, labels=np.array(["CD19+ B"] * 60 + ["unheard of"] * 640, dtype=object))
    found = raw_answers(lm, other, cells=20)
    known = [one for one in found.answers if one.expected]
    assert 0 < len(known) < 20 and all(one.expected == "CD19+ B" for one in known)
    assert f"for every cell: {len(known)} of {len(known)}" in found.right_words


def test_an_answer_is_proposed_only_where_the_model_writes_it_for_one_type_alone():
    lm, cells = load_language("embedded"), open_cells("embedded")
    names = {"CD19+ B": "gate 3", "CD56+ NK": "killers", "CD14+ Monocyte": "mono a"}
    renamed = np.array([names.get(str(one), "") for one in cells.labels], dtype=object)
    table = replace(cells, labels=renamed)
    found = suggest_answers(lm, table, map_labels(lm, table))
    assert {names[one.answer] for one in found} == {one.label for one in found} == set(names.values())
    assert all(2 * one.k > one.n == 8 for one in found)
    # Two types that the model calls the same are told and not proposed; so is one that it answers nothing of.
    mono = np.flatnonzero(renamed == "mono a")
    renamed[mono[::2]] = "mono b"
    two = {one.label: one for one in suggest_answers(lm, table, map_labels(lm, table))}
    assert two["killers"].answer and not two["mono a"].answer and not two["mono b"].answer
    assert two["mono a"].written == "CD14+ Monocyte" and two["mono a"].rival == "mono b"
    assert two["mono a"].words.endswith("of “mono b”: no proposal")
    assert [one.label for one in suggest_answers(lm, cells, map_labels(lm, cells))] == []


@pytest.mark.skipif("c2s-1" not in prompts(), reason="cell2sentence is not installed")
def test_a_checkpoint_shows_its_terms_and_its_prompt_with_special_tokens(tmp_path):
    cells = open_cells("embedded")
    texts = [" ".join(cells.symbols[start : start + 50]) for start in range(0, 700, 50)]
    words = "The cell type is: natural killer cell, B cell, classical monocyte. Homo sapiens Genes"
    lm = load_language(gemma_folder(tmp_path, [*texts, *[words] * 60]))
    terms = dict(terms_of(lm))
    assert terms["genes asked for"] == "1,000 (trained on 200 to 2,048)"
    assert terms["token of beginning"].startswith("<bos>")
    # It bears the name and is of another size: what the checkpoint alone has is not said of it.
    assert terms["licence of the weights"].startswith("not verified")
    assert terms["evidence"].startswith("known by its name alone")
    assert not text_warnings(lm)
    few = replace(lm, wanted=replace(lm.sentence_config, n_genes=40, prompt="scx"))
    assert len(text_warnings(few)) == 2 and "40 genes" in text_warnings(few)[0]
    found = raw_answers(few, cells, cells=3)
    assert found.prompt.startswith("<bos>Homo sapiens cell") and found.prompt.endswith("Cell type:")
    assert found.form.end in lm.answer_ends and set(stop_tokens(lm)) >= {lm.eos_id}
    assert shortened("a" * 500 + "b" * 500, 90) == "a" * 60 + " … (910 signs left out) … " + "b" * 30
