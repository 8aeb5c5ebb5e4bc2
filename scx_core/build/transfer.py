"""A model trained on one study and asked about others: one folder, gone on with after a stop.

| in the folder | what |
|---|---|
| `cells/NAME.h5ad` | each study's labelled cells of the shared types, over the model's genes |
| `shared/NAME.h5ad` | the same cells over all genes that the studies share |
| `model/` | the build on the first study: model, transcoders, validation |
| `there-NAME/` | transcoders of the same model, trained on another study |
| `transfer.json` | the comparison |
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from scx_core.build.config import EMBEDDED_RECIPE, BuildConfig
from scx_core.build.pipeline import build, new_build
from scx_core.cells import CellChoices, CellTable, open_cells, split_cells
from scx_core.circuits import make_tracer
from scx_core.environment import threads_of_torch
from scx_core.errors import ScxError
from scx_core.evidence.studies.transfer import Study, Transfer, TransferConfig, transfer_study
from scx_core.language import Language, load_language
from scx_core.runs import Progress, RunFolder, from_dict, option, read_json, silent, to_dict, write_json
from scx_core.sentences import SentenceConfig
from scx_core.training import train
from scx_core.training.config import PRESETS, TrainingJob
from scx_core.training.train import new_run, training_split
from scx_core.transcoders import TranscoderSet, load_set

CELLS, SHARED, MODEL, ASKED, RESULT = "cells", "shared", "model", "asked.json", "transfer.json"
LABEL = CellChoices(label="cell_type")


@dataclass(frozen=True)
class TransferBuild:
    """How the model that is carried to other studies is made."""

    variable: int = option(
        2000, "Most variable genes of the training study that the model reads (0: all shared ones)", minimum=0
    )
    readings: int = option(16_000, "Cells read in training, every repeat counted", minimum=1)
    vocabulary: int = option(
        400,
        "Tokens of the model; with few, genes are read in pieces that stand in other genes too",
        minimum=300,
    )
    thinning: float = option(
        0.5, "Largest share of a cell's counts left out at a reading", minimum=0.0, maximum=0.95
    )
    transcoder_steps: int = option(120, "Steps of each set of transcoders", minimum=1)


def transfer_build(data: Path, cfg: TransferBuild) -> BuildConfig:
    """The embedded model's recipe on 100 genes a sentence, with thinned counts where asked for."""
    return BuildConfig(
        data=str(data),
        held_out=0.1,
        choose=0.1,
        transcoder_steps=cfg.transcoder_steps,
        measured_cells=40,
        atlas=False,
        cells=LABEL,
        sentences=SentenceConfig(n_genes=100),
        recipe=replace(
            EMBEDDED_RECIPE,
            vocabulary=cfg.vocabulary,
            readings=cfg.readings,
            gene_dropout=0.2 if cfg.thinning else 0.35,
            thinning=cfg.thinning,
        ),
    )


def prepare_transfer(
    folder: Path, sources: Sequence[Path | str], variable: int, read: Sequence[str] | None = None
) -> list[str]:
    """Write every study over the same genes and types; the names of the studies, the training one first.

    Types are those that all studies have, genes those that all measure; the model's genes are the most
    variable of them in the training study, or those that a finished model `read`. Raises ScxError when
    nothing is shared, or the folder holds another study.
    """
    names = [Path(source).stem for source in sources]
    asked: dict[str, Any] = {"studies": names, "variable": variable}
    if read is not None:
        asked = {"studies": names, "read": sorted(read)}
    if (folder / ASKED).exists():
        if read_json(folder / ASKED) != asked:
            raise ScxError(f"{folder} holds a comparison of other settings.", "Give another --name.")
        return names
    tables = [open_cells(source, LABEL) for source in sources]
    types = sorted(set.intersection(*(set(table.types) for table in tables)))
    shared = set.intersection(*(set(table.symbols.astype(str)) for table in tables))
    genes = [str(gene) for gene in tables[0].symbols if str(gene) in shared]
    if len(types) < 2 or len(genes) < 50:
        raise ScxError(
            f"The studies share {len(types)} cell types and {len(genes)} genes.",
            "Give studies with a column cell_type in one vocabulary, and gene symbols.",
        )
    kept = [_cells(table, genes, types) for table in tables]
    chosen = genes if read is None else [gene for gene in genes if gene in set(read)]
    if read is None and variable:
        chosen = _variable(kept[0], variable)
    for name, cells in zip(names, kept, strict=True):
        for part, columns in ((CELLS, chosen), (SHARED, genes)):
            (folder / part).mkdir(parents=True, exist_ok=True)
            cells[:, columns].copy().write_h5ad(folder / part / f"{name}.h5ad")
    write_json(folder / ASKED, asked)
    return names


def _cells(table: CellTable, genes: Sequence[str], types: Sequence[str]) -> Any:
    """The labelled cells of some types over some genes, as AnnData, without cells that have none of them."""
    import anndata as ad

    rows = np.flatnonzero(np.isin(table.labels.astype(str), types))
    x = table.rows(rows)[:, pd.Index(table.symbols.astype(str)).get_indexer(genes)]
    held = np.asarray(x.sum(1)).ravel() > 0
    made = ad.AnnData(x[held], obs=table.obs.iloc[rows[held]].copy(), var=pd.DataFrame(index=list(genes)))
    made.obs["cell_type"] = table.labels[rows[held]].astype(str)
    return made


def _variable(cells: Any, n: int) -> list[str]:
    """The most variable genes as scanpy chooses them (flavour seurat, log-normalised counts)."""
    import scanpy as sc

    copy = cells.copy()
    with threads_of_torch():
        sc.pp.normalize_total(copy, target_sum=1e4)
        sc.pp.log1p(copy)
        sc.pp.highly_variable_genes(copy, n_top_genes=min(n, copy.n_vars))
    return [str(gene) for gene in copy.var_names[copy.var["highly_variable"]]]


def run_transfer(
    folder: Path,
    train_on: Path | str,
    on: Sequence[Path | str],
    made: TransferBuild,
    cfg: TransferConfig,
    there: Sequence[str] = (),
    built: Path | None = None,
    progress: Progress = silent,
) -> Transfer | None:
    """The whole comparison in one folder; what is there already is not made again. `there`: names of studies
    on which transcoders of the same model are trained too. `built`: the folder of a build on cells of the
    training study, which is used (and finished) instead of a new one. None when asked to stop."""
    config = None if built is None else from_dict(BuildConfig, RunFolder.open(built).config)
    read = None if config is None else open_cells(config.data, config.cells).symbols.astype(str).tolist()
    names = prepare_transfer(folder, [train_on, *on], made.variable, read)
    if unknown := [name for name in there if name not in names[1:]]:
        raise ScxError(f"{unknown[0]!r} is no other study.", f"They are: {', '.join(names[1:])}.")
    where = folder / MODEL if built is None else built
    if config is None:
        config = transfer_build(folder / CELLS / f"{names[0]}.h5ad", made)
    run = RunFolder.open(where) if where.exists() else new_build(config, MODEL, folder)
    if build(run, progress) is None:
        return None
    lm = load_language(run.path / "model")
    home = load_set(run.path / "transcoders", lm.device, lm.dtype)
    own: dict[str, tuple[TranscoderSet, np.ndarray]] = {}
    for name in there:
        found = _trained_there(folder, name, lm, made, progress)
        if found is None:
            return None
        own[name] = found
    studies = {name: _study(folder, name, lm, home) for name in names}
    first = studies[names[0]]
    same = open_cells(config.data, config.cells)
    if built is not None and same.labels.tolist() != first.tracer.table.labels.tolist():
        raise ScxError(
            f"{built} was not made of these cells of {names[0]}.", "Give its own cells, or no build."
        )
    split = split_cells(
        first.tracer.table, config.held_out, config.split_by, config.split_seed, config.choose
    )
    studies[names[0]] = first._replace(rows=split.held_out)
    result = transfer_study(studies, split.train, own, cfg, progress)
    write_json(folder / RESULT, result.to_json() | {"build": to_dict(made)})
    return result


def _study(folder: Path, name: str, lm: Language, coders: TranscoderSet) -> Study:
    tracer = make_tracer(lm, coders, open_cells(folder / CELLS / f"{name}.h5ad", LABEL))
    shared = open_cells(folder / SHARED / f"{name}.h5ad", LABEL)
    return Study(tracer, np.flatnonzero(tracer.table.answers != ""), shared)


def _trained_there(
    folder: Path, name: str, lm: Language, made: TransferBuild, progress: Progress
) -> tuple[TranscoderSet, np.ndarray] | None:
    """Transcoders of this model trained on another study, and that study's rows that they were not trained on
    or chosen on; None when asked to stop."""
    path, table = folder / CELLS / f"{name}.h5ad", open_cells(folder / CELLS / f"{name}.h5ad", LABEL)
    wanted = PRESETS["recommended"]
    settings = replace(wanted.train, steps=made.transcoder_steps, held_out=0.2, choose=0.1)
    job = TrainingJob(
        model=lm.source,
        data=str(path),
        cells=LABEL,
        sentences=lm.sentence_config,
        transcoder=wanted.transcoder,
        train=settings,
    )
    where = folder / f"there-{name}"
    run = RunFolder.open(where) if where.exists() else new_run(folder, job, lm, table, where.name)
    if not (run.path / "transcoders" / "scx.json").exists() and train(run, lm, table, progress) is None:
        return None
    coders = load_set(run.path / "transcoders", lm.device, lm.dtype)
    return coders, training_split(lm, table, settings).held_out
