"""How often the model gives the explained answer to cells of other types."""

from __future__ import annotations

from dataclasses import replace

import pytest

from scx_core.circuits import ConsensusConfig
from scx_core.circuits.circuit import Circuit
from scx_core.circuits.words.whose import (
    ELSEWHERE,
    MAPPED,
    SAYS,
    elsewhere_of,
    elsewhere_words,
    mismatch_note,
)
from scx_core.circuits.words.wording import answer_frequency
from scx_core.language import encode_cells
from tests.figures.fakes import consensus_circuit


def saying(own: int, n: int, other: object) -> Circuit:
    circuit = consensus_circuit()
    answer = circuit.target.answer
    says = {answer: own} | ({"another": n - own} if n > own else {})
    about = {"cell_type": answer, MAPPED: answer, SAYS: says, ELSEWHERE: other}
    return circuit._replace(
        n_cells=n, scores=circuit.scores | {"called": own / n}, provenance=circuit.provenance | about
    )


def test_an_answer_to_everything_is_no_answer_to_this_type() -> None:
    everything = saying(29, 29, {"k": 37, "n": 45, "n_types": 5})
    assert "It gives it to 37 of 45 cells of 5 other types too (69% to 91%)." in answer_frequency(everything)
    told = saying(30, 30, {"k": 3, "n": 54, "n_types": 9})
    assert "3 of 54 cells of 9 other types too (2% to 15%)" in answer_frequency(told)
    assert "does not tell these cells from others" not in mismatch_note(told)
    near = saying(29, 29, {"k": 44, "n": 45, "n_types": 5})
    assert "does not tell these cells from others by this answer" in mismatch_note(near)
    half = saying(8, 20, {"k": 10, "n": 45, "n_types": 5})
    assert "to 8 of these 20 cells and to 10 of 45 of other types" in mismatch_note(half)
    never = saying(0, 20, {"k": 0, "n": 45, "n_types": 5})
    assert "does not tell" not in mismatch_note(never)  # that it never gives the answer is said already


@pytest.mark.parametrize(
    "stated",
    [
        None,
        3,
        {},
        {"k": 5, "n": 4, "n_types": 1},
        {"k": "1", "n": 4, "n_types": 1},
        {"k": 0, "n": 0, "n_types": 0},
    ],
)
def test_a_file_that_does_not_say_it_says_nothing(stated) -> None:
    assert elsewhere_of(saying(5, 5, stated)) is None and elsewhere_words(saying(5, 5, stated)) == ""


def test_the_tracer_asks_the_same_cells_for_every_question(tracer) -> None:
    found = tracer.consensus("Dendritic", cfg=ConsensusConfig(cells=4))
    asked = elsewhere_of(found)
    others = [row for row in range(tracer.table.n_cells) if tracer.table.labels[row] != "Dendritic"]
    given = [tracer.predict([row])[0] for row in others]
    assert asked is not None and 0 < asked.n <= len(others)
    if asked.n == len(others):
        assert asked.k == given.count(found.target.answer)
    assert tracer.elsewhere("Dendritic", found.target.answer) == asked
    assert ELSEWHERE not in tracer.cell(3, label="Dendritic").provenance


def test_prompts_and_answers_are_made_once_for_a_model_and_a_table(tracer, monkeypatch) -> None:
    rows, asked = [3, 0, 3, 5], []
    plain = encode_cells(tracer.lm, tracer.table, rows)
    own = replace(tracer)  # begins anew, as with another table or another prompt
    assert not own._prompts and not own._elsewhere

    def noted(lm, table, wanted):
        asked.append(list(wanted))
        return encode_cells(lm, table, wanted)

    monkeypatch.setattr("scx_core.circuits.tracer.encode_cells", noted)
    found = own.encode(rows)
    assert [cell.ids for cell in found] == [cell.ids for cell in plain]
    assert [cell.spans for cell in found] == [cell.spans for cell in plain]
    assert own.encode([5, 0, 1])[1] is found[1] and asked == [[3, 0, 5], [1]]
    label, answer = "Dendritic", own.answer_for("Dendritic")
    first, n_asked = own.elsewhere(label, answer), len(asked)
    assert own.elsewhere(label, answer) is first and len(asked) == n_asked
    assert first == tracer.elsewhere(label, answer)


def test_few_prompts_are_kept(tracer, monkeypatch) -> None:
    monkeypatch.setattr("scx_core.circuits.tracer.KEPT_PROMPTS", 2)
    own, rows = replace(tracer), [0, 1, 2, 3]
    plain = [cell.ids for cell in encode_cells(tracer.lm, tracer.table, rows)]
    for some in ([0, 1], [2, 1], rows, [3, 0]):
        assert [cell.ids for cell in own.encode(some)] == [plain[row] for row in some]
        assert len(own._prompts) <= 2
