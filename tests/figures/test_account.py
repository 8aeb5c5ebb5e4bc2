"""The answer's score as a sum of parts."""

from __future__ import annotations

import pytest

from scx_core.figures import View, simplify
from scx_core.figures.table import account
from tests.figures.fakes import cell_circuit


def test_the_parts_keep_their_signs_and_their_shares_add_up() -> None:
    scores = {"gene_effect": 3.0, "prompt_effect": -1.0, "error_effect": 0.5, "bias_effect": -0.5}
    parts = account(cell_circuit()._replace(scores=scores))
    assert [part.effect for part in parts] == [3.0, -1.0, 0.5, -0.5]
    assert sum(part.share for part in parts) == pytest.approx(1.0)
    assert parts[0].share == pytest.approx(0.6)


def test_words_of_the_answer_that_are_given_are_no_words_of_the_prompt() -> None:
    scores = {"gene_effect": 3.0, "prompt_effect": 2.0, "error_effect": 0.5, "bias_effect": -0.5}
    named = [(part.name, part.effect) for part in account(cell_circuit()._replace(scores=scores))]
    assert named[1] == ("prompt and answer words", 2.0)  # an older file does not say
    parts = account(cell_circuit()._replace(scores=scores | {"answer_effect": 1.5}))
    assert [(part.name, part.effect) for part in parts[:3]] == [
        ("genes", 3.0), ("prompt words", 0.5), ("answer words given", 1.5)
    ]  # fmt: skip
    assert sum(part.effect for part in parts) == pytest.approx(5.0)
    none = account(cell_circuit()._replace(scores=scores | {"answer_effect": 0.0}))
    assert [part.name for part in none] == ["genes", "prompt words", "reconstruction errors", "biases"]


def test_without_effects_there_is_nothing_to_add() -> None:
    assert account(cell_circuit()) == ()
    zero = dict.fromkeys(("gene_effect", "prompt_effect", "error_effect", "bias_effect"), 0.0)
    assert all(part.share == 0 for part in account(cell_circuit()._replace(scores=zero)))


def test_the_box_of_the_prompt_says_that_it_holds_answer_words_too():
    """The answer's own earlier tokens are no gene's either, and stand in one box with the prompt's words."""
    circuit = cell_circuit()
    labels, headings = [], []
    for forced in ((" CD", "19"), ()):
        one = circuit._replace(target=circuit.target._replace(teacher_forced=forced))
        box = next(box for box in simplify(one, View()).nodes if box.kind == "prompt")
        labels.append(box.label)
        headings.append(box.hover[0])
    assert labels == ["prompt + answer words", "prompt"]
    assert "given before it decides" in headings[0] and "CD" in headings[0] and "answer" not in headings[1]
