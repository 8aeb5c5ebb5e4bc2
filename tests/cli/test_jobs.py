"""train, validate, trace, circuit, export, demo: the keys that other programs rely on, and the files."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from scx_core.cli import main
from scx_core.language import load_language
from scx_core.runs import RunFolder, list_runs, stop
from scx_core.transcoders import load_set
from scx_core.validation import validation_beside
from tests.cli.conftest import call

VALIDATE = {
    "ce_orig", "ce_transcoder", "ce_zero", "ce_mean", "ce_recovered", "kl", "l0", "fvu", "dead",
    "label_accuracy_orig", "label_accuracy_transcoder", "label_agreement", "per_layer", "by_token_class",
}  # fmt: skip
CIRCUIT = {"token_ids", "target", "genes", "nodes", "edges", "accounting", "provenance"}
NODE = {"id", "kind", "layer", "position", "feature", "gene", "token", "activation", "influence"}
SMALL = ["--nodes", "12"]


def test_training_leaves_a_set_and_says_how_good_it_is(files):
    run = RunFolder.open(files.run)
    assert run.kind == "train" and run.status().state == "done"
    assert [record["step"] for record in run.metrics()][-1] == 4
    assert {file.name for file in (files.run / "transcoders").glob("layer_*")} == {
        "layer_0.safetensors",
        "layer_1.safetensors",
    }


def test_a_finished_run_is_not_trained_again(files, tmp_path, capsys):
    before = (files.run / "metrics.jsonl").read_bytes()
    result = call("train", "--run", files.run, tmp_path)
    assert result["state"] == "done" and result["metrics"]["ce_orig"] > 0
    assert (files.run / "metrics.jsonl").read_bytes() == before
    assert main(["train", "--run", str(files.run)]) == 0
    assert "ce_recovered" in capsys.readouterr().out


def test_a_background_run_ends_like_one_in_front(files, tmp_path):
    short = ["--steps", "4", "--evaluate-every", "2", "--checkpoint-every", "2", "--k", "4", "--warmup", "1"]
    short += ["--finetune-steps", "0"]
    # What is compared was trained in processes of their own, as the app and a terminal start them.
    words = ["train", *files.data, *files.model, *short, "--runs", tmp_path / "front", "--name", "front"]
    command = [sys.executable, "-m", "scx_core", *map(str, words)]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    where = ["--runs", tmp_path / "runs", "--name", "behind"]
    result = call("train", *files.data, *files.model, *short, *where, "--detach", tmp_path)
    assert result["state"] == "running"
    (run,) = list_runs(tmp_path / "runs")
    try:
        deadline = time.monotonic() + 120
        while run.status().state == "running" and time.monotonic() < deadline:
            time.sleep(0.1)
    finally:
        stop(run)
    assert run.status().state == "done", (run.path / "job.log").read_text()
    for layer in ("layer_0.safetensors", "layer_1.safetensors"):
        here, there = (
            load_file(path / "transcoders" / layer) for path in (run.path, tmp_path / "front/front")
        )
        assert all((here[name] == there[name]).all() for name in here)


def test_validate_gives_the_keys_that_programs_read(files, tmp_path, capsys):
    result = call("validate", *files.all, tmp_path)
    assert set(result) >= VALIDATE
    assert result["n_cells"] == len(json.loads((files.run / "split.json").read_text())["held_out"])
    assert set(result["by_token_class"]) == {"prompt", "gene", "answer"} and len(result["per_layer"]) == 2
    assert main(["validate", *files.all, "--cells", "2", "--no-per-layer"]) == 0
    shown = capsys.readouterr().out
    assert (
        "2 test cells" in shown
        and "a linear map of each MLP" in shown
        and "seed paper" in shown
        and "0.789" in shown
    )


def test_cells_that_a_set_has_never_seen_are_all_held_out(files, tmp_path):
    from tests.cli.conftest import write_cells

    other = write_cells(tmp_path / "other.h5ad", n_cells=11)
    result = call("validate", "--data", other, *files.model, *files.transcoders, "--no-per-layer", tmp_path)
    assert result["n_cells"] == 11


def test_trace_gives_the_keys_that_programs_read(files, tmp_path, capsys):
    result = call("trace", *files.all, *SMALL, "--cell", "cell-3", "--type", "Dendritic", tmp_path)
    assert set(result) >= CIRCUIT and set(result["nodes"][0]) >= NODE
    assert set(result["edges"][0]) >= {"source", "target", "weight"}
    assert result["target"]["answer"] == "Dendritic" and result["provenance"]["cell"]["row"] == 3
    assert abs(sum(result["target"]["coefficients"].values())) < 1e-6, "a contrast"
    assert {node["kind"] for node in result["nodes"]} <= {"embedding", "feature", "error", "bias", "target"}
    assert result["accounting"]["max_relative_error"] < 1e-4
    assert main(["trace", *files.all, *SMALL]) == 0
    assert "features," in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--cell", "cell-99"], "cell-99"),
        (["--cell", "40"], "0 to 39"),
        (["--cell", "-1"], "-1"),
        (["--type", "Neuron"], "Neuron"),
        (["--type", "Dendritic", "--against", "Neuron"], "Neuron"),
    ],
)
def test_what_is_not_there_is_named(files, words, part, capsys):
    assert main(["trace", *files.all, *words]) == 2
    shown = capsys.readouterr().err
    assert part in shown and shown.count("\n") == 1


def test_circuit_and_its_export(files, tmp_path, capsys):
    words = [*files.all, *SMALL, "--type", "CD19+ B", "--cells", "3"]
    result = call("circuit", *words, tmp_path)
    assert set(result) >= CIRCUIT and result["scope"] == "consensus" and result["n_cells"] == 3
    assert result["token_ids"] == [] and all(node["position"] is None for node in result["nodes"][:-1])
    assert {"gene", "effect", "rank", "n_cells", "sd"} <= set(result["genes"][0])
    saved = tmp_path / "result.json"
    assert main(["export", str(saved), "--out", str(tmp_path / "out")]) == 0
    written = [Path(line) for line in capsys.readouterr().out.split()]
    magic = {".png": b"\x89PNG", ".pdf": b"%PDF", ".html": b"<!doctype html", ".json": b"{"}
    assert {path.suffix for path in written} == {".png", ".svg", ".pdf", ".html", ".graphml", ".json", ".csv"}
    for path in written:
        head = path.read_bytes()[:1000].lower()
        assert head.lstrip().startswith(magic.get(path.suffix, b"").lower()) and head
    again = call("export", *words, "--formats", "json", "--out", tmp_path / "again", tmp_path)
    assert (
        Path(again["files"][0]).read_bytes() == next(p for p in written if p.suffix == ".json").read_bytes()
    )


@pytest.mark.parametrize("content", ["[]", "{}", '{"target": 3}', '{"target": {"coefficients": {"a": 1}}}'])
def test_json_that_is_no_circuit_is_refused(content, tmp_path, capsys):
    (tmp_path / "no.json").write_text(content)
    assert main(["export", str(tmp_path / "no.json"), "--out", str(tmp_path)]) == 2
    assert "no.json holds no circuit" in capsys.readouterr().err


def test_demo_holds_the_strongest_genes_against_the_marker_lists(files, tmp_path, capsys):
    words = ["demo", *files.all, *SMALL, "--cells", "2", "--type", "CD19+ B"]
    result = call(*words, tmp_path)
    found = result["types"]["CD19+ B"]
    assert len(found["genes"]) <= 10 and all(gene["effect"] > 0 for gene in found["genes"])
    assert found["markers"] == [gene["gene"] for gene in found["genes"] if gene["marker"]]
    assert main(words) == 0
    counts, said = found["marker_counts"], capsys.readouterr().out
    assert counts["circuit"] == len(found["markers"]) and counts["cells"] == found["n_cells"]
    assert f"{counts['circuit']} of the circuit, {counts['differential_expression']} by differential" in said
    assert f"{counts['highest_expression']} of the highest expressed" in said, "never alone"


def test_demo_build_makes_a_model_and_its_transcoders(files, tmp_path):
    tiny = ["--width", "16", "--layers", "1", "--heads", "2", "--readings", "64", "--vocabulary", "320"]
    more = ["--n-genes", "8", "--presets", "quick", "--device", "cpu", "--name", "mine"]
    words = ["demo", "build", *files.data, *tiny, *more, "--runs", tmp_path / "runs"]
    result = call(*words, "--install", tmp_path / "models", tmp_path)
    assert 0 <= result["metrics"]["quick"]["label_accuracy_orig"] <= 1
    assert "CE recovered" in result["table"]
    assert {Path(path).name for path in result["installed"]} == {"mine", "mine-transcoders", "mine-atlas"}
    text = (tmp_path / "models" / "mine" / "README.md").read_text()
    assert text.count("CE recovered") == 2, "the sets, and what could do as well without features"
    for part in ("to choose on", "| a linear map of each MLP |", "\nClaims (quick, n = "):
        assert part in text
    assert "demo build --data" in text and "bsd-3-clause" not in text, "cells and weights are the user's"
    lm, made = load_language(Path(result["run"]) / "model"), load_set(Path(result["run"]) / "transcoders")
    marks = {"model": lm.fingerprint, "transcoders": made.fingerprint}
    assert validation_beside(made.folder, marks), "the app finds what the build has measured"
    again = call("demo", "build", "--run", result["run"], tmp_path)
    assert again["metrics"] == result["metrics"]
