"""On a card that is too small a job goes on with less at a time, or ends in one line."""

import contextlib
import io
import json

import pytest

from scx_core.cli import main
from tests.fake_cuda import jobs
from tests.fake_cuda.jobs import Desk, card, make_desk, run_job

# The share of the memory that a job takes where there is enough, and what it then takes less of.
SMALLER = {
    "validate": (["validate", "--cells", "12"], 0.5, "cells"),
    "trace": (["trace", "--nodes", "96", "--cell", "1"], 0.9, "rows of edges"),
    "consensus": (["circuit", "--nodes", "24", "--cells", "8"], 0.6, "prompts"),
    "match": ("match", 0.5, "cells"),
    "annotate": ("annotate alone", 0.5, "cells"),
}


@pytest.fixture(scope="module")
def desk(tmp_path_factory) -> Desk:
    """Two sets, trained on a card with room enough."""
    made = make_desk(tmp_path_factory.mktemp("small"))
    for name in ("train", "train topk skip"):
        with card():
            run_job(made, name)
    return made


def run(desk: Desk, words: list[str] | str, memory: int | None = None) -> tuple[int, str, int, dict]:
    """Exit code, what was said, the peak, and the result of a command."""
    command = jobs.JOBS[words](desk) if isinstance(words, str) else [words[0], *desk.all, *words[1:]]
    said, place = io.StringIO(), desk.root / "result.json"
    place.unlink(missing_ok=True)
    with card(memory=memory) as report, contextlib.redirect_stderr(said):
        with contextlib.redirect_stdout(io.StringIO()):
            code = main([*command, "--quiet", "--json", str(place)])
        peak = report.peak
    return code, said.getvalue(), peak, json.loads(place.read_text()) if place.exists() else {}


@pytest.mark.parametrize("name", SMALLER)
def test_a_job_goes_on_with_less_at_a_time(desk, name):
    words, share, units = SMALLER[name]
    _, said, peak, whole = run(desk, words)
    assert "out of memory" not in said
    code, said, smaller, found = run(desk, words, int(share * peak))
    assert code == 0 and smaller <= share * peak
    assert f"{units} at a time from here on" in said
    if name == "validate":
        for figure in ("kl", "ce_transcoder", "label_accuracy_transcoder"):
            assert found[figure] == pytest.approx(whole[figure], rel=1e-5)
    if name == "trace":
        assert found["target"]["value"] == pytest.approx(whole["target"]["value"], rel=1e-5)
        assert [n["id"] for n in found["nodes"]] == [n["id"] for n in whole["nodes"]]


@pytest.mark.parametrize("words", [["validate", "--cells", "2"], ["trace", "--nodes", "9"], "match", "atlas"])
def test_or_it_ends_in_one_line(desk, words):
    code, said, *_ = run(desk, words, 150_000)
    last = said.strip().splitlines()[-1]
    assert code == 2 and last.startswith("scx: error: The device's memory does not suffice")
    assert "Traceback" not in said
