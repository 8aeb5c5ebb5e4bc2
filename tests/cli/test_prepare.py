import json
import sys
from pathlib import Path

from scx_core.cli import main
from scx_core.language import load_language
from scx_core.runs import RunFolder, read_jsonl
from tests.cli.conftest import call
from tests.language.checkpoints import PYTHIA, pythia_folder


def test_the_result_says_what_was_found_and_the_folder_holds_split_and_sentences(files, tmp_path):
    result = call("prepare", *files.data, "--n-genes", 5, "--seed", 3, "--runs", tmp_path / "runs", tmp_path)
    assert (result["n_cells"], result["n_genes"], result["values_kind"]) == (40, 32, "counts")
    assert sum(result["cells_per_type"].values()) == 40
    assert {"symbols", "values", "label", "donor", "organism"} <= {row["topic"] for row in result["findings"]}

    run = RunFolder.open(result["run"])
    split = json.loads((run.path / "split.json").read_text())
    parts = split["train"] + split["choose"] + split["held_out"]
    assert split["seed"] == 3 and sorted(parts) == list(range(40))
    assert len(split["held_out"]) == result["split"]["held_out"]
    cells = read_jsonl(run.path / "sentences.jsonl")
    assert [cell["row"] for cell in cells] == list(range(40))
    for part in ("held_out", "choose", "train"):
        assert {cell["row"] for cell in cells if cell["part"] == part} == set(split[part])
    assert cells[7]["cell"] == "cell-7" and 1 <= len(cells[7]["sentence"].split()) <= 5
    assert run.kind == "prepare" and run.status().state == "done"


def test_the_same_input_gives_the_same_files(files, tmp_path):
    made = [
        Path(call("prepare", *files.data, "--runs", tmp_path / "runs", tmp_path)["run"]) for _ in range(2)
    ]
    assert made[0] != made[1]
    for name in ("run.json", "split.json", "sentences.jsonl"):
        assert (made[0] / name).read_bytes() == (made[1] / name).read_bytes()


def test_the_text_is_a_check_list(files, tmp_path, capsys):
    assert main(["prepare", *files.data, "--runs", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "cells.h5ad: 40 cells × 32 genes" in shown
    assert "label: cell_type" in shown and "CD19+ B" in shown
    assert "30 cells to train on, 5 to choose on, 5 to test on" in shown


def test_a_choice_overrules_the_detection(files, tmp_path):
    result = call("prepare", *files.data, "--organism", "Mus musculus", "--runs", tmp_path, tmp_path)
    assert result["organism"] == "Mus musculus"


def test_with_a_model_it_says_what_the_model_reads_and_answers(tmp_path, capsys):
    args = ["--model", "embedded", "--device", "cpu", "--runs", tmp_path / "runs"]
    read = call("prepare", *args, tmp_path)["reading"]
    assert read["terms"]["genes asked for"] == "80" and read["prompt"].startswith("Homo sapiens cell, top 80")
    assert read["parsed"]["n"] >= 16 and read["parsed"]["k"] >= 14 and read["parsed"]["low"] < 1.0
    assert len(read["mapping"]) == 10 and all(one["why"] == "the same name" for one in read["mapping"])
    given = tmp_path / "answers.csv"
    given.write_text("label,answer\nDendritic,\n")
    assert main(["prepare", *map(str, args), "--answers", str(given)]) == 0
    shown = capsys.readouterr().out
    assert "1 of 10 types have no answer and are not scored: Dendritic" in shown and "CD19+ B.'" in shown


def test_a_checkpoint_without_its_templates_is_one_line_and_nothing_is_read(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys.modules["scx_core.sentences.prompts"], "_cell2sentence_prompts", dict)
    folder = pythia_folder(tmp_path, PYTHIA[0], load_language("embedded").tokenizer)
    for command in ("prepare", "circuit", "trace", "validate"):
        runs = ["--runs", str(tmp_path / "runs")] if command == "prepare" else []
        assert main([command, "--model", str(folder), "--quiet", *runs]) == 2
        lines = capsys.readouterr().err.strip().splitlines()
        assert len(lines) == 1 and "pip install --no-deps cell2sentence" in lines[0] and "licence" in lines[0]
    assert not (tmp_path / "runs").exists()
