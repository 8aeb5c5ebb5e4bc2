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
    """And each is told as it ends."""
    told = []

    def ran(_module, name, *_sizes):
        assert len(told) == ["answer", "skip", "relu"].index(name)  # all before it are told already
        if name == "skip":
            raise ScxError("MemoryError: no room")
        return {
            "mode": name,
            "what": "",
            "layers": 2,
            "tokens": 9,
            "max_relative_error": 1e-6,
        } | dict.fromkeys(("wall_s", "cpu_s", "all_cpu_s", "peak_gib"), 1.0)

    monkeypatch.setattr(modes, "in_own_process", ran)
    found = bench_modes("answer, skip, relu", told=told.append)
    assert [row.get("error") for row in found["modes"]] == [None, "MemoryError: no room", None]
    assert told == found["modes"]
    assert "skip: MemoryError: no room" in summary(found)
    with pytest.raises(ScxError, match="none of these modes"):
        bench_modes("nothing")
