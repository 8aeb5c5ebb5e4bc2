"""A heart model of simulated cells, from mean profiles to the study: one folder, gone on with after a stop.

| in the folder | what |
|---|---|
| `cells.h5ad` | simulated cells that the model is trained on (a part of them held out) |
| `fresh.h5ad` | simulated cells of another seed, never trained on: for circuits and knock-outs |
| `pools.h5ad` | real rows over the same genes, where they are given |
| `model/` | the build: model, transcoders, validation |
| `heart.json` | the study |
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from scx_core.build.config import EMBEDDED_RECIPE, BuildConfig
from scx_core.build.pipeline import build, new_build
from scx_core.cells import CellChoices, CellTable, open_cells, split_cells
from scx_core.cells.simulated import SimulationConfig, simulated_cells
from scx_core.circuits import make_tracer
from scx_core.errors import ScxError
from scx_core.evidence.studies.heart import TYPE, HeartConfig, HeartStudy, heart_study
from scx_core.language import load_language
from scx_core.runs import Progress, RunFolder, option, read_json, silent, to_dict, write_json
from scx_core.sentences import SentenceConfig
from scx_core.transcoders import load_set

CELLS, FRESH, POOLS, MODEL, STUDY, ASKED = (
    *("cells.h5ad", "fresh.h5ad", "pools.h5ad", "model", "heart.json", "asked.json"),
)
ADULT = ("age_group", "Adult")
FRESH_CELLS = 80  # of each type
NAME = "simulated heart"


@dataclass(frozen=True)
class HeartModelConfig:
    """How the heart model is made."""

    vocabulary: int = option(
        6000,
        "Tokens of the model; with 1,000 many genes are read in pieces that stand in other genes too",
        minimum=400,
    )
    readings: int = option(10_000, "Cells read in training, every repeat counted", minimum=1)


def heart_build(data: Path, cfg: HeartModelConfig) -> BuildConfig:
    """How the heart model is made: the embedded model's recipe with 200 genes a sentence."""
    return BuildConfig(
        data=str(data),
        name=NAME,
        held_out=0.05,
        presets="quick",
        measured_cells=22,
        atlas=False,
        cells=CellChoices(label="cell_type"),
        sentences=SentenceConfig(n_genes=200),
        recipe=replace(EMBEDDED_RECIPE, vocabulary=cfg.vocabulary, readings=cfg.readings),
    )


def heart_profiles(path: Path | str) -> tuple[CellTable, np.ndarray]:
    """The mean profiles, their types with blanks for underscores, and the rows to simulate: adult types where
    the file says which are. Raises ScxError when there is no endothelial profile."""
    table = open_cells(path, CellChoices(label="author_label"))
    table = replace(
        table, labels=np.array([str(one).replace("_", " ") for one in table.labels], dtype=object)
    )
    column, wanted = ADULT
    adult = table.obs[column].astype(str).to_numpy() == wanted if column in table.obs else table.labels != ""
    rows = np.flatnonzero(adult)
    if TYPE not in table.labels[rows]:
        raise ScxError(f"{table.name} has no adult profile named {TYPE}.", "Give the heart's mean profiles.")
    return table, rows


def prepare_heart(
    folder: Path,
    profiles: Path | str,
    pools: Path | str | None,
    cfg: SimulationConfig,
    model: HeartModelConfig,
) -> None:
    """Write the simulated cells and the real pools over the genes that both have; nothing is written twice.

    Raises ScxError when the folder holds another study's.
    """
    import anndata as ad

    asked = {
        "profiles": Path(profiles).name,
        "pools": pools and Path(pools).name,
        "simulation": to_dict(cfg),
        "model": to_dict(model),
    }
    if (folder / ASKED).exists():
        if read_json(folder / ASKED) != asked:
            raise ScxError(f"{folder} holds a study of other settings.", "Give another --name.")
        return
    folder.mkdir(parents=True, exist_ok=True)
    table, rows = heart_profiles(profiles)
    genes = table.symbols.astype(str)
    real = None
    if pools is not None:
        opened = open_cells(pools)
        genes = np.array(sorted(set(genes) & set(opened.symbols.astype(str))))
        real = ad.AnnData(_columns(opened, np.arange(opened.n_cells), genes), obs=opened.obs.copy())
        real.var_names = genes
    for name, drawn in ((CELLS, cfg), (FRESH, replace(cfg, cells=FRESH_CELLS, seed=cfg.seed + 1))):
        simulated_cells(table, rows, drawn)[:, genes].copy().write_h5ad(folder / name)
    if real is not None:
        real.write_h5ad(folder / POOLS)
    write_json(folder / ASKED, asked)


def _columns(table: CellTable, rows: np.ndarray, genes: np.ndarray) -> Any:
    """Expression of these rows and genes, CSR [rows, genes]."""
    import pandas as pd

    return table.rows(rows)[:, pd.Index(table.symbols.astype(str)).get_indexer(genes)]


def run_heart(
    folder: Path,
    profiles: Path | str,
    pools: Path | str | None,
    simulation: SimulationConfig,
    cfg: HeartConfig,
    model: HeartModelConfig | None = None,
    progress: Progress = silent,
) -> HeartStudy | None:
    """The whole study in one folder; what is there already is not made again. None when asked to stop."""
    model = model or HeartModelConfig()
    prepare_heart(folder, profiles, pools, simulation, model)
    config = heart_build(folder / CELLS, model)
    run = RunFolder.open(folder / MODEL) if (folder / MODEL).exists() else new_build(config, MODEL, folder)
    if build(run, progress) is None:
        return None
    lm, cells = load_language(run.path / "model"), open_cells(folder / CELLS, config.cells)
    fresh = open_cells(folder / FRESH, config.cells)
    tracer = make_tracer(lm, load_set(run.path / "transcoders", lm.device, lm.dtype), fresh)
    table, rows = heart_profiles(profiles)
    split = split_cells(cells, config.held_out, config.split_by, config.split_seed, config.choose)
    real = open_cells(folder / POOLS) if (folder / POOLS).exists() else None
    found = heart_study(
        tracer,
        (_restricted(table, fresh), rows),
        simulation,
        cfg,
        train=(cells, split.train),
        pools=real,
        progress=progress,
    )
    write_json(folder / STUDY, found.to_json())
    return found


def _restricted(profiles: CellTable, cells: CellTable) -> CellTable:
    """The profiles over the genes of the cells, in their order."""
    import anndata as ad

    rows = np.arange(profiles.n_cells)
    made = ad.AnnData(_columns(profiles, rows, cells.symbols.astype(str)), obs=profiles.obs.copy())
    made.var_names = cells.symbols.astype(str)
    made.obs["author_label"] = profiles.labels.astype(str)
    return open_cells(made, CellChoices(label="author_label"))
