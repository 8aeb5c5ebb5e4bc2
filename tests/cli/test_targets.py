"""What a trace explains, chosen on the command line."""

import json
import math

import pytest

from scx_core.cli import main
from scx_core.cli.evidence import knockouts
from tests.cli.conftest import call

SMALL = ["--nodes", "12", "--cell", "3", "--type", "Dendritic"]


def test_the_log_probability_of_an_answer(files, tmp_path, capsys):
    result = call("trace", *files.all, *SMALL, "--target", "logprob", tmp_path)
    assert result["target"]["kind"] == "logprob"
    assert result["scores"]["probability"] == pytest.approx(math.exp(result["target"]["value"]), rel=1e-4)
    assert main(["trace", *files.all, *SMALL, "--target", "logprob"]) == 0
    assert "nats (one cell)" in capsys.readouterr().out


def test_any_token(files, tmp_path):
    result = call("trace", *files.all, *SMALL, "--target", "token", "--token", "7", tmp_path)
    assert result["target"]["coefficients"] == {"7": 1.0} and result["target"]["vocabulary_mean"] == -1.0
    over = ["--type", "Dendritic", "--cells", "2", "--nodes", "8"]
    result = call("circuit", *files.all, *over, "--target", "token", "--token", " FOX", tmp_path)
    assert "FOX" in result["target"]["label"] and 0 < result["scores"]["probability"] < 1


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--target", "token"], "no token is given"),
        (["--target", "token", "--token", "99999"], "no token 99999"),
        (["--target", "token", "--token", "XYZXYZ"], "tokens of this model"),
        (["--target", "feature"], "one of auto, answer, contrast, logit, logprob, token"),
    ],
)
def test_a_target_that_is_none_is_named(files, words, part, capsys):
    assert main(["trace", *files.all, *SMALL, *words]) == 2
    shown = capsys.readouterr().err
    assert part in shown and shown.count("\n") == 1


def test_a_saved_trace_becomes_a_neuronpedia_graph(files, tmp_path, capsys):
    call("trace", *files.all, *SMALL, tmp_path)
    out = tmp_path / "graph_neuronpedia.json"
    assert main(["export", str(tmp_path / "result.json"), "--out", str(out)]) == 0
    graph = json.loads(out.read_text("utf-8"))
    assert graph["metadata"]["schema_version"] == 1 and graph["nodes"] and graph["links"]
    assert graph["metadata"]["prompt_tokens"] == json.loads((tmp_path / "result.json").read_text())["tokens"]


def test_knock_outs_do_not_print_the_same_numbers_twice():
    """The target "answer" is the label's log-odds: one column a way, and two where the target is another."""
    value = {"mean": 0.5, "low": 0.25, "high": 0.75}
    value |= {
        f"over_all{end}": value[name] for end, name in (("", "mean"), ("_low", "low"), ("_high", "high"))
    }
    gene = {"gene": "CD74", "n_cells": 3, "rank": 2.0} | dict.fromkeys(
        ("gap", "text", "gap_log_odds", "text_log_odds"), value
    )
    joint = {"way": "text", "genes": ["CD74"], "held_in": {"CD74": 3}, "target": value, "log_odds": value}
    found = {"target": "B", "kind": "answer", "n_cells": 3, "genes": [gene], "cells": [], "together": joint}
    words = knockouts.summary(found)
    assert "gap, nats" in words and "log-odds" not in words and words.count("0.5") == 3
    other = found | {
        "kind": "logit",
        "genes": [gene | {"gap_log_odds": value | {"mean": 0.3, "over_all": 0.3}}],
    }
    assert "gap, logits" in knockouts.summary(other) and "gap, log-odds" in knockouts.summary(other)
