"""How often the model gives the explained answer to cells of other types."""

from __future__ import annotations

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
