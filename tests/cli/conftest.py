"""Small cells, a random model and a few steps of training, all in files as a user has them."""

import json
from pathlib import Path
from typing import NamedTuple

import anndata
import pandas as pd
import pytest

from scx_core.cli import main
from tests.tiny import save_tiny, tiny_table


class Files(NamedTuple):
    """Arguments that name the files, and the folder of the trained run."""

    data: list[str]
    model: list[str]
    transcoders: list[str]
    run: Path

    @property
    def all(self) -> list[str]:
        return [*self.data, *self.model, *self.transcoders]


def write_cells(path: Path, n_cells: int = 40) -> Path:
    """The tiny table as a file, with names for the cells."""
    table = tiny_table(n_cells)
    names = pd.Index([f"cell-{row}" for row in range(n_cells)])
    obs = pd.DataFrame({"cell_type": table.labels.astype(str)}, index=names)
    var = pd.DataFrame(index=pd.Index(table.symbols.astype(str)))
    anndata.AnnData(table.values, obs, var).write_h5ad(path)
    return path


def call(*words: object) -> dict:
    """Run a command that must succeed, quietly; its JSON."""
    target = Path(str(words[-1])) / "result.json"
    assert main([*map(str, words[:-1]), "--quiet", "--json", str(target)]) == 0
    return json.loads(target.read_text())


@pytest.fixture(scope="session")
def files(tmp_path_factory) -> Files:
    folder = tmp_path_factory.mktemp("cli")
    data = ["--data", str(write_cells(folder / "cells.h5ad"))]
    model = ["--model", str(save_tiny(folder / "model")), "--device", "cpu"]
    short = ["--steps", "4", "--evaluate-every", "2", "--checkpoint-every", "2", "--k", "4", "--warmup", "1"]
    short += ["--finetune-steps", "0"]
    result = call("train", *data, *model, *short, "--runs", folder / "runs", folder)
    run = Path(result["run"])
    return Files(data, model, ["--transcoders", str(run / "transcoders")], run)
