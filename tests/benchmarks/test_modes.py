"""Accounting by mode: what the bench gives is the circuit's own figure, in small."""

import pytest
import torch

from scx_core.bench import modes
from scx_core.bench.modes import MODES, account_of, bench_modes
from scx_core.cli.bench import summary
from scx_core.errors import ScxError
from tests.tiny import tiny_table, tiny_tokenizer

SMALL = {"vocab_size": 500, "hidden_size": 64, "num_attention_heads": 16, "intermediate_size": 128}


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(modes, "PYTHIA_410M", modes.PYTHIA_410M | SMALL)
    monkeypatch.setattr(modes, "ACTIVE", 8)
    yield
    torch.set_flush_denormal(False)


WAYS = ("feature", "two-steps", "made", "bfloat16", "topk", "sae", "cross", "gpt2", "qwen2", "gemma2 skip")


@pytest.mark.parametrize("name", WAYS)
def test_a_mode_runs_and_adds_up(name):
    found = account_of(name, tiny_table(10), tiny_tokenizer(), layers=2, genes=6, nodes=12)
    assert MODES[name].way == "two-steps" or found["rows"] > 1
    assert found["max_relative_error"] < 1e-4 and found["tokens"] > 20
    assert (found["patterns"] == "kept") == (name != "made")


def test_one_that_fails_does_not_end_the_others(monkeypatch):
    class Ran:
        returncode, stderr, stdout = 1, "Traceback\nMemoryError: no room", ""

    monkeypatch.setattr(modes.subprocess, "run", lambda *_parts, **_options: Ran)
    found = bench_modes("answer, skip")
    assert [row["error"] for row in found["modes"]] == ["MemoryError: no room"] * 2
    assert "skip: MemoryError: no room" in summary(found)
    with pytest.raises(ScxError, match="none of these modes"):
        bench_modes("nothing")
