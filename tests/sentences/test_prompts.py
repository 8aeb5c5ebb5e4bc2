"""Prompt templates: what is accepted, and that each mistake is named."""

from __future__ import annotations

import json

import pytest

from scx_core.errors import ScxError
from scx_core.sentences import make_prompt, prompts
from scx_core.sentences.prompts import _cell2sentence_prompts


def test_own_template_is_there_and_ends_as_it_must():
    own = make_prompt("scx")
    assert own == prompts()["scx"]
    assert own.template.endswith(":")
    assert own.lead == " "
    assert own.parts(num_genes=7, organism="Mus musculus") == (
        "Mus musculus cell, top 7 genes: ",
        ".\nCell type:",
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nosuch", "no prompt template named 'nosuch'"),
        ("{num_genes} genes:", "has the fields"),
        ("{cell_sentence} {cell_sentence}:", "has the fields"),
        ("{cell_sentence} {tissue}:", "tissue"),
        ("{cell_sentence}", "does not end with ':'"),
        ("{cell_sentence}: ", "does not end with ':'"),
        ("{cell_sentence:", "cannot be read"),
        ("{cell_sentence} {:", "cannot be read"),
        ("{cell_sentence} {}:", "has the fields"),
        ("{cell_sentence} {0}:", "has the fields"),
        ("{cell_sentence.__class__}:", "has the fields"),
        ("{cell_sentence!r}:", "cell_sentence"),
        ("{cell_sentence:>9}:", "cell_sentence"),
        ("{organism:{num_genes}} {cell_sentence}:", "organism"),
        ("{num_genes:d} {organism:d} {cell_sentence}:", "organism"),
    ],
)
def test_mistakes_are_named(text, words):
    with pytest.raises(ScxError, match=words):
        make_prompt(text)


def test_own_text_keeps_escaped_braces_and_the_lead():
    prompt = make_prompt("{{x}} {organism} {cell_sentence} {{}}:", lead="")
    assert prompt.parts(num_genes=3, organism="O") == ("{x} O ", " {}:")
    assert prompt.lead == ""


def test_an_escaped_field_is_text():
    prompt = make_prompt("{{cell_sentence}} {cell_sentence} {organism}:")
    assert prompt.parts(num_genes=3, organism="{num_genes}") == ("{cell_sentence} ", " {num_genes}:")


def test_templates_of_an_installed_cell2sentence_are_read(tmp_path, monkeypatch):
    folder = tmp_path / "cell2sentence" / "prompts"
    folder.mkdir(parents=True)
    (tmp_path / "cell2sentence" / "__init__.py").write_text("raise ImportError('must not be imported')")
    texts = [
        "The {num_genes} genes of a {organism} cell: {cell_sentence}. Type:",
        "{cell_sentence}. What is it:",
    ]
    file = folder / "single_cell_cell_type_prediction_prompts.json"
    file.write_text(json.dumps({"model_input": texts, "response": "{cell_type}."}))
    monkeypatch.syspath_prepend(str(tmp_path))
    assert [prompt.template for prompt in _cell2sentence_prompts().values()] == texts
    assert make_prompt("c2s-2").lead is None
