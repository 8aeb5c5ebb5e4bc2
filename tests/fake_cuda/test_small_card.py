"""On a card that is too small a job goes on with less at a time, or ends in one line."""

import contextlib
import io
import json
import os
import shutil
from unittest import mock

import pytest
import torch

from scx_core.circuits.many_cells import two_steps
from scx_core.cli import main
from scx_core.cli.evidence.smallest import summary
from scx_core.evidence.smallest import smallest_circuit
from tests.fake_cuda import jobs
from tests.fake_cuda.jobs import OTHER, TYPE, Desk, card, make_desk, run_job

# The share of the memory that a job takes where there is enough, and what it then takes less of.
SMALLER = {
    "validate": (["validate", "--cells", "12"], 0.5, "cells"),
    "trace": (["trace", "--nodes", "96", "--cell", "1"], 0.9, "rows of edges"),
    "consensus": (["circuit", "--nodes", "24", "--cells", "8"], 0.6, "prompts"),
    "match": ("match", 0.5, "cells"),
    "annotate": ("annotate alone", 0.5, "cells"),
    "smallest": (
        "smallest --search-cells 3 --unseen-cells 2 --gradient-cells 2 --nodes 8 --reference-cells 4 --draws 2 "
        "--exchanges 1".split(),
        0.8,
        "cells × node sets",
    ),
    "curves": ("curves", 0.6, "cells × node sets"),
    "rankings": (
        ["rankings", "--cells", "2", "--measured", "2", "--least", "4", "--draws", "2", "--type", OTHER],
        0.6,
        "points",
    ),
    "share": ("share", 0.5, "prompts"),
}


@pytest.fixture(scope="module")
def desk(tmp_path_factory) -> Desk:
    """Two sets, trained on a card with room enough."""
    made = make_desk(tmp_path_factory.mktemp("small"))
    for name in ("train", "train topk skip"):
        with card():
            run_job(made, name)
    return made


WHOLE: dict[str, tuple[int, str, int, dict]] = {}


def whole_of(desk: Desk, name: str) -> tuple[int, str, int, dict]:
    """The same with memory enough, once."""
    if name not in WHOLE:
        WHOLE[name] = run(desk, SMALLER[name][0])
    return WHOLE[name]


def run(desk: Desk, words: list[str] | str, memory: int | None = None) -> tuple[int, str, int, dict]:
    """Exit code, what was said, the peak, and the result of a command."""
    command = jobs.JOBS[words](desk) if isinstance(words, str) else [words[0], *desk.all, *words[1:]]
    said, place = io.StringIO(), desk.root / "result.json"
    place.unlink(missing_ok=True)
    shutil.rmtree(desk.root / "runs" / "results", ignore_errors=True)  # else it would be found again
    shutil.rmtree(desk.root / "runs" / "evidence", ignore_errors=True)
    runs = mock.patch.dict(os.environ, {"SCX_RUNS": str(desk.root / "runs")})
    with runs, card(memory=memory) as report, contextlib.redirect_stderr(said):
        with contextlib.redirect_stdout(io.StringIO()):
            code = main([*command, "--quiet", "--json", str(place)])
        peak = report.peak
    return code, said.getvalue(), peak, json.loads(place.read_text()) if place.exists() else {}


@pytest.mark.parametrize("name", SMALLER)
def test_a_job_goes_on_with_less_at_a_time(desk, name):
    words, share, units = SMALLER[name]
    _, said, peak, whole = whole_of(desk, name)
    assert "out of memory" not in said
    code, said, smaller, found = run(desk, words, int(share * peak))
    assert code == 0 and smaller <= share * peak
    assert f"{units} at a time from here on" in said
    if name == "validate":
        for figure in ("kl", "ce_transcoder", "label_accuracy_transcoder"):
            assert found[figure] == pytest.approx(whole[figure], rel=1e-5)
    if name == "smallest":
        for one in ("ours", "random"):
            assert found["sets"][one]["unseen"] == pytest.approx(whole["sets"][one]["unseen"], abs=1e-3)
        assert "not_compared" not in found["provenance"]
    if name == "rankings":
        for one, other in zip(found["types"], whole["types"], strict=True):
            assert one["before"] == pytest.approx(other["before"], rel=1e-4)
            assert [r["genes"] for r in one["rankings"]] == [r["genes"] for r in other["rankings"]]
    if name == "share":
        assert found["circuits"] == whole["circuits"]
    if name == "trace":
        assert found["target"]["value"] == pytest.approx(whole["target"]["value"], rel=1e-5)
        assert [n["id"] for n in found["nodes"]] == [n["id"] for n in whole["nodes"]]


ONE_LINE = (["validate", "--cells", "2"], ["trace", "--nodes", "9"], "match", "atlas", "smallest", "curves")


@pytest.mark.parametrize("words", [*ONE_LINE, "rankings", "share", "two steps", "train micro"])
def test_or_it_ends_in_one_line(desk, words):
    code, said, *_ = run(desk, words, 150_000)
    last = said.strip().splitlines()[-1]
    assert code == 2 and last.startswith("scx: error: The device's memory does not suffice")
    assert "Traceback" not in said


def test_a_share_that_does_not_fit_keeps_the_cells_of_its_circuits(desk, monkeypatch):
    """Of a large model: after the line, and with room again, no cell is traced a second time."""
    monkeypatch.setattr(two_steps, "LARGE", 0)
    made, ask = [], two_steps.frozen_for

    def scarce(*parts):
        made.append(parts)
        if len(made) == 6:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate.")
        return ask(*parts)

    monkeypatch.setattr(two_steps, "frozen_for", scarce)
    words = ["share", "--cells", "2", "--type", TYPE, "--type", OTHER, "-o", desk.path("two.html")]
    code, said, *_ = run(desk, words)
    assert code == 2 and said.strip().splitlines()[-1].startswith(
        "scx: error: The device's memory does not suffice"
    )
    code, *_, found = run(desk, words)
    assert code == 0 and found["circuits"] == [TYPE, OTHER]
    assert len(made) == 2 * 2 * 2 + 1


def test_a_search_whose_comparisons_do_not_fit_keeps_its_result(desk, monkeypatch):
    def scarce(*_parts, **_options):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate.")

    words, *_ = SMALLER["smallest"]
    whole = whole_of(desk, "smallest")[-1]
    monkeypatch.setattr(smallest_circuit, "graph_scores_of", scarce)
    code, _, _, found = run(desk, words)
    assert code == 0 and found["nodes"] == whole["nodes"]
    assert set(found["sets"]) == {"ours", "random"} < set(whole["sets"])
    assert found["provenance"]["not_compared"].startswith("CUDA out of memory")
    assert "Not compared with the influence cut and plain greedy: CUDA out of" in summary(found)
