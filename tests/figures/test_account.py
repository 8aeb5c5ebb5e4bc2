"""The answer's score as a sum of four parts."""

from __future__ import annotations

import pytest

from scx_core.figures.table import account
from tests.figures.fakes import cell_circuit


def test_the_parts_keep_their_signs_and_their_shares_add_up() -> None:
    scores = {"gene_effect": 3.0, "prompt_effect": -1.0, "error_effect": 0.5, "bias_effect": -0.5}
    parts = account(cell_circuit()._replace(scores=scores))
    assert [part.effect for part in parts] == [3.0, -1.0, 0.5, -0.5]
    assert sum(part.share for part in parts) == pytest.approx(1.0)
    assert parts[0].share == pytest.approx(0.6)


def test_without_effects_there_is_nothing_to_add() -> None:
    assert account(cell_circuit()) == ()
    zero = dict.fromkeys(("gene_effect", "prompt_effect", "error_effect", "bias_effect"), 0.0)
    assert all(part.share == 0 for part in account(cell_circuit()._replace(scores=zero)))
