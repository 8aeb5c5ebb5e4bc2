"""Answers: where a label is decided, and how likely it is."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from scx_core.errors import ScxError
from scx_core.language import (
    answer_form,
    answer_tree,
    answers,
    answers_of,
    decision,
    encode_cells,
    predicted,
    score_labels,
)
from scx_core.sentences import answer_ids
from tests.tiny import LABELS, OTHER_FAMILIES, tiny_cells, tiny_language, tiny_table

NAMES = st.dictionaries(
    st.sampled_from("abcdefgh"), st.lists(st.integers(0, 2), min_size=1, max_size=5).map(tuple), min_size=2
)


@pytest.fixture(scope="module")
def lm(tmp_path_factory):
    return tiny_language(tmp_path_factory.mktemp("lm"))


@pytest.fixture(scope="module")
def cells(lm):
    return tiny_cells(lm)


def slow_scores(lm, cells, labels, lead) -> np.ndarray:
    """Every prompt + answer read from the start, alone, without cache or padding."""
    out = np.zeros((len(cells), len(labels)))
    for b, cell in enumerate(cells):
        for k, label in enumerate(labels):
            answer = lm.tokenizer(f"{lead}{label}.")["input_ids"]
            with torch.no_grad():
                logits_TV = lm.model(torch.tensor([[*cell.ids, *answer]])).logits[0].double()
            log_TV = logits_TV - logits_TV.logsumexp(-1, keepdim=True)
            out[b, k] = sum(float(log_TV[len(cell.ids) - 1 + i, token]) for i, token in enumerate(answer))
    return out


MODELS = [{"parallel": True}, {"parallel": False}, *({"family": family} for family in OTHER_FAMILIES)]


@pytest.mark.parametrize("model", MODELS, ids=lambda model: "-".join(map(str, model.values())))
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_scores_equal_a_slow_direct_computation(tmp_path, model, dtype):
    """Also where some layers see only a window that is shorter than the prompt (Qwen2, Gemma-2)."""
    lm = tiny_language(tmp_path, dtype=dtype, **model)
    cells = tiny_cells(lm)
    wanted = slow_scores(lm, cells, LABELS, " ")
    assert len({len(cell.ids) for cell in cells}) > 1
    assert len({len(answer) for answer in answers_of(lm, LABELS, " ").values()}) > 1
    np.testing.assert_allclose(score_labels(lm, cells, LABELS, " "), wanted, atol=2e-4)


@pytest.mark.parametrize("batch", [1, 2, 3, 16])
@pytest.mark.parametrize("nodes", [1, 12, 10**9])
@pytest.mark.parametrize("numbers", [1, 10**9])
def test_batches_and_the_bounds_on_trees_and_logits_change_nothing(
    lm, cells, monkeypatch, batch, nodes, numbers
):
    monkeypatch.setattr(answers, "NODES", nodes)
    monkeypatch.setattr(answer_tree, "VOCABULARY_NUMBERS", numbers)
    found = score_labels(lm, cells, LABELS, " ", batch=batch)
    np.testing.assert_allclose(found, slow_scores(lm, cells, LABELS, " "), atol=2e-4)


def test_one_token_answers_need_no_second_token(lm, cells):
    """A label can be a single token together with its full stop; then only the prompt decides."""
    some = [(5,), (7,), (9, 11)]
    found = answers.score_answers(lm, [cell.ids for cell in cells[:2]], some).sum(-1)
    for b in range(2):
        with torch.no_grad():
            log_V = lm.model(torch.tensor([cells[b].ids])).logits[0, -1].log_softmax(-1)
        np.testing.assert_allclose(found[b, :2], log_V[[5, 7]].numpy(), atol=1e-4)


def test_predicted_is_the_likeliest():
    assert predicted(np.array([[-3.0, -1.0, -2.0], [-1.0, -5.0, -2.0]]), ["a", "b", "c"]) == ["b", "a"]


def test_lead_is_the_settings_or_the_likelier_one(lm, cells):
    assert answer_form(lm, tiny_table()).lead == " "
    sentences = {**lm.settings["sentences"], "prompt": "{cell_sentence}\nType:"}
    for lead in (" ", ""):
        told = dataclasses.replace(lm, settings={**lm.settings, "sentences": sentences, "lead": lead})
        assert answer_form(told, tiny_table()).lead == lead
    asked = dataclasses.replace(lm, settings={**lm.settings, "sentences": sentences, "lead": None})
    table = tiny_table()
    eight = encode_cells(asked, table, range(8))
    best = {}
    for lead in (" ", ""):  # the whole answer and the end of text
        ids = [[*answer_ids(lm.tokenizer, label, lead), lm.eos_id] for label in LABELS]
        best[lead] = answers.score_answers(lm, [cell.ids for cell in eight], ids).sum(-1).max(1).mean()
    assert answer_form(asked, table).lead == max(best, key=lambda lead: best[lead])


def test_the_settings_lead_wins_over_a_named_templates_own(lm):
    assert dataclasses.replace(lm, settings={**lm.settings, "lead": ""}).prompt.lead == ""


def leaves_at(own: tuple, other: tuple) -> int | None:
    """The first place where two answers differ; None when one is the start of the other."""
    return next((i for i, (a, b) in enumerate(zip(own, other, strict=False)) if a != b), None)


@given(NAMES)
def test_decision_follows_from_the_tokens(found):
    label = min(found)
    parting = {name: leaves_at(found[label], found[name]) for name in found if name != label}
    if None in parting.values():
        with pytest.raises(ScxError, match="cannot be told apart"):
            decision(found, label)
        return
    chosen = decision(found, label)
    at = len(chosen.forced)
    assert chosen.forced == found[label][:at]
    assert chosen.token == found[label][at]
    assert set(chosen.covered) == {name for name, place in parting.items() if place == at}
    for token, names in chosen.competing.items():
        assert token != chosen.token
        assert all(found[name][: at + 1] == (*chosen.forced, token) for name in names)
    counts = {place: list(parting.values()).count(place) for place in parting.values()}
    assert (counts[at], at) == max((count, place) for place, count in counts.items())


def test_decision_against_one_competitor_is_where_these_two_part():
    found = {"T4": (1, 2, 3), "T8": (1, 2, 4), "B": (5, 6), "NK": (7, 6)}
    assert decision(found, "T4").forced == ()
    assert decision(found, "T4").covered == ("B", "NK")
    pair = decision(found, "T4", ["T8"])
    assert (pair.forced, pair.token, pair.competing) == ((1, 2), 3, {4: ("T8",)})


@pytest.mark.parametrize(
    ("label", "against", "words"),
    [
        ("X", None, "no answer 'X'"),
        ("A", ["X"], "set against X"),
        ("A", ["A"], "set against nothing"),
        ("A", ["A2"], "cannot be told apart"),
    ],
)
def test_decision_names_mistakes(label, against, words):
    with pytest.raises(ScxError, match=words):
        decision({"A": (1, 2), "A2": (1, 2, 3), "B": (4,)}, label, against)


def test_prefix_labels_can_be_told_apart_by_their_full_stop(lm):
    """ "T" and "T Reg" part where the one ends: the full stop belongs to the answer."""
    found = answers_of(lm, ["Dendritic", "Dendritic cell"], " ")
    chosen = decision(found, "Dendritic")
    assert lm.tokenizer.decode([chosen.token]) == "."
