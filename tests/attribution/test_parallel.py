"""Many prompts traced side by side: the numbers of one after another, and nothing left behind."""

from __future__ import annotations

import pytest
import torch

from scx_core.attribution.local_replacement_model import AT_ONCE, freeze, trace_many
from scx_core.attribution.replacement_model import replacement
from scx_core.errors import ScxError
from tests.tiny import random_set, tiny_cells, tiny_language


@pytest.fixture
def prompts(tmp_path):
    lm = tiny_language(tmp_path)
    cells = [cell.ids for cell in tiny_cells(lm)]
    return replacement(lm, random_set(lm, "relu", skip=False)), (cells * 9)[: 4 * AT_ONCE + 1]


def test_in_order_and_as_one_after_another(prompts):
    rep, ids = prompts
    threads = torch.get_num_threads()
    found = list(trace_many(rep, ids, lambda number, frozen: (number, frozen.ids, frozen.logits_V)))
    assert [(number, one) for number, one, _ in found] == [(i, tuple(one)) for i, one in enumerate(ids)]
    for one, (_, _, logits_V) in zip(ids, found, strict=True):
        torch.testing.assert_close(logits_V, freeze(rep, one).logits_V, rtol=1e-5, atol=1e-6)
    assert torch.get_num_threads() == threads


def test_an_error_of_one_is_told_and_the_threads_are_given_back(prompts):
    rep, ids = prompts
    threads, first = torch.get_num_threads(), freeze(rep, ids[0])
    hooks = _hooks(rep)  # those of transformers itself stay

    def trace(number, frozen):
        if number == AT_ONCE + 1:
            raise ScxError("Cell five is broken.")
        return number

    with pytest.raises(ScxError, match="Cell five"):
        list(trace_many(rep, ids, trace))
    assert torch.get_num_threads() == threads
    assert _hooks(rep) == hooks
    torch.testing.assert_close(freeze(rep, ids[0]).logits_V, first.logits_V)


def _hooks(rep) -> int:
    return sum(len(module._forward_hooks) for module in rep.lm.model.modules())
