"""A dry run of `scx reproduce` where neither hub nor atlas can be reached: the same path, other files.

A checkpoint folder is written in the form of C2S-Pythia-410m-cell-type-prediction (its name, architecture and
vocabulary; random weights; no settings of ours in it) and an .h5ad in the form of Heart Cell Atlas v2 (its
columns of obs and var, raw counts in CSR, its 12 types, no organism; random counts). Then every step runs on
these two paths as it would on the real ones: open, load, train transcoders, the three experiments. Only two
paths change for the real run. Figures of random weights mean nothing: what counts is that each step goes
through, and what it takes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, PreTrainedTokenizerFast

from scx_core.bench.random_410m.made_model import PYTHIA_410M
from scx_core.build.recipe import END_OF_TEXT, train_tokenizer
from scx_core.cells import CellChoices, all_markers, open_cells
from scx_core.circuits import make_tracer
from scx_core.errors import ScxError
from scx_core.evidence.reproduce import PAPER_GENES, ReproduceConfig, Reproduction, Stopwatch, reproduce
from scx_core.language import load_language
from scx_core.runs import Progress, silent, to_dict
from scx_core.runs.options import option
from scx_core.training import train
from scx_core.training.config import TrainConfig, TrainingJob, TranscoderConfig
from scx_core.training.train import new_run

CHECKPOINT = "C2S-Pythia-410m-cell-type-prediction"
ATLAS_FILE = "heart_cell_atlas_v2.h5ad"
# Cells of each type in Heart Cell Atlas v2.
TYPES = {
    "Ventricular Cardiomyocyte": 190_710,
    "Fibroblast": 138_055,
    "Endothelial cell": 131_505,
    "Mural cell": 104_593,
    "Myeloid": 51_426,
    "Atrial Cardiomyocyte": 45_911,
    "Lymphoid": 24_922,
    "Neural cell": 6_622,
    "Adipocyte": 6_347,
    "Mast cell": 1_853,
    "Lymphatic Endothelial cell": 1_295,
    "Mesothelial cell": 1_057,
}
SYMBOLS = "gene_name-new"


@dataclass(frozen=True)
class DryRunConfig:
    """What is written, and how little of it is read. Dimensions are those of the released checkpoint."""

    layers: int = option(24, "Blocks of the model", minimum=2)
    width: int = option(1024, "Its width", minimum=16)
    heads: int = option(16, "Its attention heads", minimum=1)
    vocabulary: int = option(50_304, "Rows of its embedding", minimum=512)
    cells_a_type: int = option(4, "Cells of each of the 12 types", minimum=4)
    file_genes: int = option(600, "Genes of the file", minimum=100)
    n_genes: int = option(12, "Genes of a cell sentence (the checkpoint wants 200)", minimum=8)
    expansion: int = option(1, "Features a layer over the width (the paper: 8)", minimum=1)
    steps: int = option(1, "Steps of the transcoders' training", minimum=1)
    seed: int = option(0, "Seed of weights and counts", minimum=0)


class DryRun(NamedTuple):
    """What was written, with which settings, and the reproduction with the time and memory of each step."""

    model: str
    data: str
    tokenizer: str
    parameters: int
    tokens: int
    config: dict[str, Any]
    found: Reproduction

    def to_json(self) -> dict[str, Any]:
        """Plain types for `json.dump`."""
        return self._asdict() | {"found": self.found.to_json()}


def least(cfg: DryRunConfig) -> ReproduceConfig:
    """The experiments on as few cells as they run with."""
    return ReproduceConfig(
        test_cells=2,
        baselines=False,
        atlas_cells=4,
        draws=1,
        neurons=False,
        context=0,
        circuit_cells=2,
        knockout_cells=2,
        random_sets=2,
        nodes=40,
        seed=cfg.seed,
    )


def dry_run(
    folder: Path,
    tokenizer: Path | None = None,
    cfg: DryRunConfig | None = None,
    wanted: ReproduceConfig | None = None,
    progress: Progress = silent,
) -> DryRun:
    """Write both files into `folder` and go the whole way on them. `tokenizer`: a tokenizer.json, else a
    small one of the same number of entries. The files stay there (1.6 GB at full dimensions).

    Raises ScxError when the folder holds files already.
    """
    cfg, watch = cfg or DryRunConfig(), Stopwatch()
    if folder.exists() and any(folder.iterdir()):
        raise ScxError(f"{folder} is not empty.", "Give a new folder.")
    folder.mkdir(parents=True, exist_ok=True)
    model, data = folder / CHECKPOINT, folder / ATLAS_FILE
    watch.take("write the cells", lambda: write_cells(data, cfg))
    parameters = watch.take("write the checkpoint", lambda: write_checkpoint(model, tokenizer, cfg))
    table = watch.take("open the cells", lambda: open_cells(str(data), CellChoices()))
    lm = watch.take("load the model", lambda: load_language(str(model), "cpu"))
    lm = replace(lm, wanted=replace(lm.sentence_config, n_genes=cfg.n_genes))
    job = TrainingJob(
        model=str(model),
        data=str(data),
        sentences=lm.sentence_config,
        transcoder=TranscoderConfig(kind="relu", expansion=cfg.expansion, normalise=False),
        train=TrainConfig(
            steps=cfg.steps,
            cells_per_batch=2,
            warmup=0,
            evaluate_every=10_000,
            evaluate_cells=1,
            checkpoint_every=10_000,
            held_out=0.09,
            choose=0.0,
            calibration_cells=2,
        ),
    )
    coders = watch.take(
        "train transcoders", lambda: train(new_run(folder / "runs", job, lm, table), lm, table, progress)
    )
    assert coders is not None  # nobody asks it to stop
    tracer = make_tracer(lm, coders, table)
    found = reproduce(tracer, cfg=wanted or least(cfg), watch=watch, progress=progress)
    said = "a small one" if tokenizer is None else tokenizer.name
    tokens = len(tracer.encode([0])[0].ids)
    return DryRun(CHECKPOINT, ATLAS_FILE, said, parameters, tokens, to_dict(cfg), found)


def write_checkpoint(folder: Path, tokenizer: Path | None, cfg: DryRunConfig) -> int:
    """A GPT-NeoX of these dimensions with random weights, as Hugging Face writes it; how many."""
    torch.manual_seed(cfg.seed)
    size = {
        "hidden_size": cfg.width,
        "intermediate_size": 4 * cfg.width,
        "num_hidden_layers": cfg.layers,
        "num_attention_heads": cfg.heads,
        "vocab_size": cfg.vocabulary,
    }
    model = GPTNeoXForCausalLM(GPTNeoXConfig(**(PYTHIA_410M | size)))
    model.save_pretrained(folder)
    words = {"eos_token": END_OF_TEXT, "bos_token": END_OF_TEXT, "unk_token": END_OF_TEXT}
    if tokenizer is not None:
        PreTrainedTokenizerFast(tokenizer_file=str(tokenizer), **words).save_pretrained(folder)
    else:
        small = train_tokenizer(_texts(cfg), min(800, cfg.vocabulary))
        small.add_tokens([f"<unused{i}>" for i in range(len(small), cfg.vocabulary)])
        small.save_pretrained(folder)
    return sum(weight.numel() for weight in model.parameters())


def _texts(cfg: DryRunConfig) -> Iterator[str]:
    symbols = _symbols(cfg)
    for start in range(0, len(symbols), 20):
        yield f"Predict the cell type: {' '.join(symbols[start : start + 20])}."
    yield from (f" {name}." for name in TYPES)


def _symbols(cfg: DryRunConfig) -> list[str]:
    """The paper's genes, known markers, and names of no gene."""
    known = sorted({gene for markers in all_markers() for gene in markers.genes})
    named = list(dict.fromkeys([*PAPER_GENES, *known]))[: cfg.file_genes // 2]
    return [*named, *(f"GENE{number}" for number in range(cfg.file_genes - len(named)))]


def write_cells(path: Path, cfg: DryRunConfig) -> None:
    """An .h5ad with the columns of Heart Cell Atlas v2 and random raw counts."""
    from anndata import AnnData
    from scipy import sparse

    rng = np.random.default_rng(cfg.seed)
    labels = np.repeat(list(TYPES), cfg.cells_a_type)
    n_cells, symbols = len(labels), _symbols(cfg)
    rate_G = rng.gamma(0.4, 2.0, len(symbols))
    counts_CG = rng.poisson(rate_G, (n_cells, len(symbols)))
    counts_CG[labels == "Endothelial cell", : len(PAPER_GENES)] += 40
    donors = np.array([f"D{number}" for number in range(6)])[np.arange(n_cells) % 6]
    obs = pd.DataFrame(
        {
            "cell_type": pd.Categorical(labels),
            "cell_state": pd.Categorical([f"{name}_1" for name in labels]),
            "region": pd.Categorical(rng.choice(["AX", "LA", "LV", "RA", "RV", "SP"], n_cells)),
            "donor": pd.Categorical(donors),
            "age": pd.Categorical(rng.choice(["50-55", "60-65"], n_cells)),
            "gender": pd.Categorical(rng.choice(["Female", "Male"], n_cells)),
            "cell_or_nuclei": pd.Categorical(rng.choice(["Cell", "Nuclei"], n_cells)),
            "modality": pd.Categorical(rng.choice(["scRNA", "snRNA"], n_cells)),
        },
        index=[f"CELL{number:06d}-1" for number in range(n_cells)],
    )
    index = [f"ENSG{number:011d}" for number in range(len(symbols))]
    var = pd.DataFrame({SYMBOLS: symbols}, index=index)
    AnnData(sparse.csr_matrix(counts_CG.astype(np.float32)), obs=obs, var=var).write_h5ad(path)
