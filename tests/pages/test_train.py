"""The training page: presets, the job that is started, and runs in every state."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from scx_core.build import BuildConfig
from scx_core.runs import RunFolder, read_json, to_dict, write_json
from scx_core.runs.ranks import RankFile
from scx_core.sentences import SentenceConfig
from scx_core.tasks import run_task
from scx_core.training.config import PRESETS, TrainingJob
from scx_core.training.estimate import TrainingEstimate
from tests.cells.good_cells import good_cells
from tests.pages.running import button, open_page, pick, said, starting, well

MODELS = Path(__file__).resolve().parents[2] / "models"
STATES = {
    "stopped": "Resume goes on from there",
    "failed": "the loss is not a number",
    "dead": "The process is gone",
    "done": "done",
}


@pytest.fixture
def guessed(at_once: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """No trial steps: estimates that are said to be known already."""
    one, other = TrainingEstimate(60.0, 10**9, 1000, 100), TrainingEstimate(120.0, 3 * 10**9, 1000, 100)
    monkeypatch.setattr("scx_core.tasks.makers_of_training.estimate", lambda *_: one)
    monkeypatch.setattr(
        "scx_core.tasks.makers_of_training.estimate_build", lambda *_: {"model": one, "recommended": other}
    )


@pytest.fixture
def started(guessed: None, monkeypatch: pytest.MonkeyPatch) -> list:
    """What would be started; nothing is."""
    jobs: list = []

    def launch(config, *_args, **_more) -> RunFolder:
        jobs.append(config)
        kind, name = "train" if len(_args) > 1 else "build", _args[-1]
        return RunFolder.create(os.environ["SCX_RUNS"], kind, config, name)

    monkeypatch.setattr("pages.parts.train.new_run.launch_training", launch)
    monkeypatch.setattr("pages.parts.train.new_run.launch_build", launch)
    return jobs


def run_in(state: str, root: Path) -> RunFolder:
    """A training in a state, with two records of metrics."""
    job = TrainingJob(sentences=SentenceConfig())
    run = RunFolder.create(root, "train", job, f"{state} one")
    for step in (10, 20):
        run.log({"step": step, "loss": 2.0, "fvu": [0.5, 0.4], "l0": [9.0, 8.0], "dead": [0.0, 0.1]})
    if state == "dead":
        record = {"state": "running", "done": 20, "total": 100, "message": "training"}
        gone = {"pid": 2**22 + 1, "birth": "", "host": socket.gethostname()}
        write_json(run.path / "status.json", record | {"process": gone})
    else:
        run.write_status(
            state, 20, 100, "training", error="the loss is not a number" if state == "failed" else ""
        )
    return run


def test_the_job_is_what_the_form_says(runs: Path, started: list) -> None:
    app = well(open_page("train"))
    starting(app, "Choose ").click().run()  # the first that is not chosen: the paper's
    app.number_input(key="paper tr steps").set_value(7).run()
    button(app, "Start training").click().run()
    (job,) = started
    assert job.transcoder == PRESETS["paper"].transcoder
    assert (job.train.steps, job.model, job.data) == (7, "embedded", "embedded")
    assert "train-001" in said(well(app))


def test_several_processes_are_asked_for_in_the_form(runs: Path, started: list) -> None:
    app = open_page("train")
    app.number_input(key="recommended all processes").set_value(2).run()
    button(app, "Start training").click().run()
    assert started[0].train.processes == 2
    well(app)


def test_a_target_that_the_chosen_gate_cannot_have_is_said_and_can_be_taken_back(
    runs: Path, started: list
) -> None:
    app = open_page("train")
    app.selectbox(key="recommended tc kind").set_value("jumprelu").run()
    app.number_input(key="recommended tc target_l0").set_value(8.0).run()
    app.selectbox(key="recommended tc kind").set_value("batchtopk").run()
    assert "Give k 8" in said(app)
    app.number_input(key="recommended tc target_l0").set_value(0.0).run()
    button(app, "Start training").click().run()
    assert started[0].transcoder == PRESETS["recommended"].transcoder
    well(app)


def test_tensorboard_is_asked_for_in_the_form(
    runs: Path, guessed: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list = []
    monkeypatch.setattr("scx_core.build.pipeline.start", lambda run, after: begun.append(run.argv))
    monkeypatch.setattr("scx_core.build.pipeline.check_installed", lambda: None)
    app = open_page("train")
    button(app, "Start training").click().run()
    app.toggle(key="scx_tensorboard").set_value(True).run()
    button(app, "Start training").click().run()
    assert ["--tensorboard" in argv for argv in begun] == [False, True]
    well(app)


def test_what_processes_cannot_share_is_refused_before_the_start(runs: Path, guessed: None) -> None:
    app = open_page("train")
    pick(app, "Features write to").set_value("later")
    app.number_input(key="recommended all processes").set_value(2).run()
    button(app, "Start training").click().run()
    assert "trained in one process" in well(app).error[0].value and "Set processes to 1" in said(app)
    assert not list(runs.glob("train-*"))


def test_every_process_of_a_training_is_shown(runs: Path, guessed: None) -> None:
    run = run_in("failed", runs)
    for rank in (0, 1):
        file = RankFile(run, rank, 2, f"cuda:{rank}")
        file.write(step=20 + rank, tokens_per_second=1234.0, memory=2_500_000_000)
        file.write(state="failed", error="out of memory" if rank else "")
    app = well(open_page("train"))
    (table,) = [frame.value for frame in app.dataframe if "device" in frame.value]
    assert table["step"].tolist() == [20, 21] and table["device"].tolist() == ["cuda:0", "cuda:1"]
    assert table["memory"].tolist() == [2.5, 2.5] and set(table["state"]) == {"failed"}
    assert "Process 1: out of memory" in said(app)


def test_an_estimate_is_given_before_the_start(runs: Path, at_once: list[str]) -> None:
    words = said(well(open_page("train")))
    assert "of memory" in words and "Trying a few steps" not in words
    assert len(at_once) == 1 and "of memory" in said(open_page("train")) and len(at_once) == 1, "found again"


def test_a_model_can_be_trained_on_the_cells_in_use(runs: Path, started: list) -> None:
    app = open_page("train")
    app.button_group[0].set_value("A small model on the cells in use").run()
    app.number_input(key="recipe layers").set_value(2).run()
    button(app, "Train the model").click().run()
    (cfg,) = started
    assert (cfg.data, cfg.recipe.layers, cfg.presets) == ("embedded", 2, "recommended")
    words = said(well(app)).replace("**", "")
    assert "About 3 min" in words and "3.0 GB" in words, "times together, the memory of the largest part"
    assert "Transcoders included" in words


def test_own_cells_are_first_offered_a_model_that_is_called_after_them(
    runs: Path, started: list, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "my cells (2).h5ad"
    good_cells().write_h5ad(path)
    monkeypatch.setenv("SCX_DATA", str(path))
    app = open_page("train")
    for name in ("my-cells-2", "my-cells-2-2"):
        button(app, "Train the model").click().run()
        assert pick(well(app), "Run").value == name
    assert [cfg.data for cfg in started] == [str(path)] * 2
    app.button_group[0].set_value("Transcoders for the model in use").run()
    assert "made from other cells (pbmc68k_reduced)" in said(well(app))


def test_a_build_says_which_part_of_it_is_running(runs: Path, guessed: None) -> None:
    run = RunFolder.create(runs, "build", BuildConfig(), "mine")
    run.write_status("running", 0, 100, "training the model", part=1, parts=3)
    app = well(open_page("train"))
    assert [bar.proto.text for bar in app.main.get("progress")] == [
        "part 1 of 3, training the model 0 of 100"
    ]


@pytest.mark.parametrize("state", STATES)
def test_a_run_says_its_state_and_what_can_be_done(state: str, runs: Path, guessed: None) -> None:
    run_in(state, runs)
    app = well(open_page("train"))
    assert STATES[state] in said(app)
    labels = [found.label for found in app.button]
    assert ("Resume" in labels) == (state != "done")
    assert "Stop" not in labels
    assert "FVU" in said(app)


def test_the_run_that_is_looked_at_stays_and_is_called_what_it_is(runs: Path, guessed: None) -> None:
    for state in ("done", "failed"):
        run_in(state, runs)
    run = run_in("stopped", runs)
    app = open_page("train")
    pick(app, "Run").set_value("failed one").run()
    before = pick(app, "Run")
    assert (before.value, before.proto.options[before.index].rsplit(" ", 1)[-1]) == ("failed one", "failed")
    RunFolder.open(runs / "failed one").write_status("stopped", 20, 100, "training")
    os.utime(run.path, (0, 0))
    after = pick(well(app.run()), "Run")
    assert (after.value, after.proto.options[after.index].rsplit(" ", 1)[-1]) == ("failed one", "stopped")
    assert after.proto.id != before.proto.id  # the browser would go on showing "failed"


def test_finished_transcoders_are_taken_into_use(runs: Path, guessed: None) -> None:
    run = run_in("done", runs)
    app = open_page("train")
    button(app, "Use these transcoders").click().run()
    from pages.parts.common.session import KEY

    assert app.session_state[KEY].transcoders == str(run.path / "transcoders")
    assert to_dict(app.session_state[KEY])["model"] == "embedded"


def test_a_finished_build_says_how_good_it_is(runs: Path, guessed: None) -> None:
    run = RunFolder.create(runs, "build", BuildConfig(), "mine")
    figures = {"label_accuracy_orig": 0.951, "label_accuracy_transcoder": 0.943, "ce_recovered": 0.9946}
    record = {"n_held_out": 263, "recommended": figures | {"kl": 0.0082, "l0": 15.0}}
    write_json(run.path / "metrics.json", record)
    run.write_status("done", 1, 1, "finished")
    words = said(well(open_page("train"))).replace("**", "")
    assert "Right about 95.1% of 263 held-out cells, 94.3% with every MLP replaced" in words
    assert "CE recovered 0.9946, KL 0.0082, L0 15.0" in words


def test_a_run_can_be_duplicated(runs: Path, guessed: None) -> None:
    run_in("done", runs)
    app = open_page("train")
    button(app, "Duplicate").click().run()
    assert "steps" in said(well(app)).lower()
    assert pick(app, "Run").value == "done one"


def test_a_model_that_is_mostly_wrong_is_not_offered_without_a_word(runs: Path, guessed: None) -> None:
    run = RunFolder.create(runs, "build", BuildConfig(presets="quick"), "poor")
    run.write_status("done", 1, 1, "done")
    table = read_json(MODELS / "embedded-transcoders" / "validation.json") | {"label_accuracy_orig": 0.07}
    table["warnings"] = [{"sign": "accuracy", "layers": [], "text": "wrong", "remedy": "train"}]
    write_json(run.path / "transcoders" / "validation.json", table)
    write_json(run.path / "metrics.json", {"n_held_out": 70, "quick": table})
    words = said(well(open_page("train")))
    assert "Right about **7.0%** of 70 held-out cells (95% interval" in words
    assert "one answer for all: 34%; logistic regression on the genes: 89%)" in words
    assert "names only 7% of the cells rightly" in words and "Train again with more cells read" in words


def test_the_axis_of_steps_has_no_half_steps(runs: Path, guessed: None) -> None:
    run_in("done", runs)
    charts = [chart.proto for chart in well(open_page("train")).main.get("vega_lite_chart")]
    assert charts and all('"tickMinStep": 1' in chart.spec for chart in charts)


def test_the_form_survives_a_reload(runs: Path, started: list) -> None:
    app = well(open_page("train"))
    steps = next(one for one in app.number_input if one.label == "Steps")
    first = steps.value
    steps.set_value(first + 17).run()
    again = well(open_page("train"))
    assert next(one for one in again.number_input if one.label == "Steps").value == first + 17
    well(button(again, "Back to its settings").click().run())
    assert next(one for one in again.number_input if one.label == "Steps").value == first
    third = well(open_page("train"))
    assert next(one for one in third.number_input if one.label == "Steps").value == first


def test_a_run_is_deleted_when_that_is_confirmed_and_not_while_it_is_used(runs: Path, started: list) -> None:
    run = run_in("stopped", runs)
    app = well(open_page("train"))
    assert run.path.exists() and "cannot be brought back" in said(app)
    well(button(app, "Delete for good").click().run())
    assert not run.path.exists()
    used = run_in("done", runs)
    write_json(runs / "last-used.json", {"transcoders": str(used.path / "transcoders")})
    labels = [one.label for one in well(open_page("train")).button]
    assert "Duplicate" in labels and "Delete for good" not in labels


def test_a_second_training_waits_for_the_one_at_work(runs: Path, started: list) -> None:
    run_in("running", runs)
    app = well(open_page("train"))
    assert any(one.label == "Wait until running one has ended" and one.value for one in app.toggle)


def test_a_trial_of_a_build_is_a_job_and_the_form_stays_usable(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Begun without being asked for, one at a time, found again; the page never waits for it."""
    started: list[RunFolder] = []

    def start(run: RunFolder) -> None:
        started.append(run)
        run.write_status("running", 0, 1, "a few steps of each part")

    monkeypatch.setattr("scx_core.runs.background.start", start)
    app = open_page("train")
    started[0].write_status("done", 1, 1, "finished")  # that of the transcoders, which come first
    started.clear()
    app.button_group[0].set_value("A small model on the cells in use").run()
    assert "Trying a few steps in the background" in said(well(app)) and len(started) == 1
    assert not button(app, "Train the model").disabled
    first = app.number_input(key="recipe layers").value
    app.number_input(key="recipe layers").set_value(first + 1).run()
    assert len(started) == 1 and "Trying a few steps" in said(well(app)), "one at a time"
    started[0].write_status("failed", 0, 1, "failed", error="The disk is full.")
    app.number_input(key="recipe layers").set_value(first).run()
    assert "The disk is full." in said(well(app)) and starting(app, "Try again")
    one, other = TrainingEstimate(60.0, 10**9, 1000, 100), TrainingEstimate(120.0, 3 * 10**9, 1000, 100)
    monkeypatch.setattr(
        "scx_core.tasks.makers_of_training.estimate_build", lambda *_: {"model": one, "recommended": other}
    )
    monkeypatch.setattr("scx_core.runs.background.start", run_task)
    starting(app, "Try again").click().run()
    assert "About 3 min" in said(well(app)).replace("**", "")


def test_the_share_that_is_watched_stands_beside_one_answer_for_all(runs: Path, guessed: None) -> None:
    run = RunFolder.create(runs, "build", BuildConfig(), "new")
    run.log({"step": 1, "loss": 7.0, "answer_loss": 6.0})
    run.log({"step": 2, "loss": 6.0, "accuracy": 0.25, "watched": 24, "one_answer": 10 / 24})
    run.write_status("stopped", 2, 9, "stopped")
    words = said(well(open_page("train")))
    assert "now 0.25 of 24 cells (0.12 to 0.45); one answer for all: 0.42" in words
