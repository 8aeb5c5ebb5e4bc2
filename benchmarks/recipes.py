"""Recipes for the embedded model, side by side: how much of what its MLPs do can linear maps do as well?

A model whose MLPs are nearly linear cannot show that transcoder features matter. Here a recipe is trained,
and judged on a *choosing* split carved from the training cells: the held-out cells of the default are never
looked at, so that its figures stay honest after the choice.

Legend: N counted positions, d residual width, B cells.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from scx_core.bench.machine import machine
from scx_core.build.language_training import train_model
from scx_core.build.recipe import RecipeConfig
from scx_core.cells import CellTable, open_cells, split_cells
from scx_core.errors import ScxError
from scx_core.language import (
    Language,
    answer_form,
    captured_mlps,
    load_language,
    predicted,
    replaced_mlps,
    score_labels,
)
from scx_core.language.hooks import Stand_in
from scx_core.metrics import RunningVariance, agreement, ce_recovered, fvu
from scx_core.runs import Progress, RunFolder, read_json, silent, to_dict, write_json
from scx_core.sentences import SentenceConfig
from scx_core.statistics.intervals import wilson
from scx_core.validation.baselines import Affine, LinearSums
from scx_core.validation.held_out import Texts, TextsOfRows
from scx_core.validation.measure import hidden_states, token_losses

# Of the training cells, the share that recipes are chosen on; seed of that split.
CHOOSING, CHOOSING_SEED = 0.1, 1
BATCH = 8
# What was tried, as changes of the defaults; `docs/recipes.md` has the table.
_SPELLED = "vocabulary=400 residual=sequential"
_TABLES = f"{_SPELLED} activation=relu mlp_start=4"
_QUICK = "readings=4400"
_SMALL = "batch=8 answer_weight=12 learning_rate=0.0015"
VARIANTS: dict[str, str] = {
    "base-q": _QUICK,
    "v400-seq-100": f"{_QUICK} {_SPELLED} n_genes=100",
    "v400-seq-100-start4": f"{_QUICK} {_SPELLED} n_genes=100 mlp_start=4",
    "A-v400-80-seq-relu4-1h-3x128": f"{_QUICK} {_SMALL} {_TABLES} n_genes=80 heads=1 layers=3",
    "B-v320-80-seq-relu4-4h-2x128": f"{_QUICK} {_SMALL} {_TABLES} vocabulary=320 n_genes=80 layers=2",
    "C-1h-80-12k": f"readings=12000 {_SMALL} {_TABLES} n_genes=80 heads=1 layers=3",
    "D-2h-100-12k": f"readings=12000 {_SMALL} {_TABLES} n_genes=100 heads=2 layers=3",
}


class RecipeFigures(NamedTuple):
    """One model on the choosing cells. CE in nats a token over all tokens; accuracies and agreements (with
    the original model's own answers) as shares of `n` cells; `tokens` a cell with its answer."""

    n: int
    tokens: float
    ce: dict[str, float]
    recovered: dict[str, float]
    accuracy: dict[str, float]
    agreement: dict[str, float]
    fvu: tuple[float, ...]


@torch.no_grad()
def fit_linear(lm: Language, table: CellTable, rows: np.ndarray) -> list[LinearSums]:
    """The sums that give each MLP's linear map and mean, over all positions of the whole texts of `rows`."""
    sums = [LinearSums() for _ in range(lm.facts.n_layers)]
    for texts in _texts(lm, table, rows):
        with captured_mlps(lm) as io:
            hidden_states(lm, texts)
        real_BT = texts.real_BT.bool()
        for layer, x_BTd, y_BTd in zip(sums, io.inputs, io.outputs, strict=True):
            layer.add(x_BTd[real_BT], y_BTd[real_BT])
    return sums


def _texts(lm: Language, table: CellTable, rows: np.ndarray):
    lead = answer_form(lm, table).lead
    read = TextsOfRows(lm, table, rows, lm.labels, lead)
    return (read.of(rows[start : start + BATCH]) for start in range(0, len(rows), BATCH))


@torch.no_grad()
def judge(lm: Language, table: CellTable, rows: np.ndarray, fit_rows: np.ndarray) -> RecipeFigures:
    """Every MLP of `lm` replaced at once on the cells `rows`: by zero, its mean, its linear map."""
    sums_L = fit_linear(lm, table, fit_rows)
    linear: dict[int, Stand_in] = {k: one.solved() for k, one in enumerate(sums_L)}
    layers = range(lm.facts.n_layers)
    ways: dict[str, dict[int, Stand_in]] = {
        "original": {},
        "linear": linear,
        "mean": {k: Affine(one.mean_y_d.float()) for k, one in enumerate(sums_L)},
        "zero": dict.fromkeys(layers, torch.zeros_like),
    }
    sums = dict.fromkeys(ways, 0.0)
    guesses: dict[str, list[str]] = {name: [] for name in ways}
    truth: list[str] = []
    n_tokens = 0
    error_L, spread_L = np.zeros(len(layers)), [RunningVariance() for _ in layers]
    lead = answer_form(lm, table).lead
    for texts in _texts(lm, table, rows):
        truth += texts.labels
        n_tokens += len(texts.target_N)
        for name, stand_ins in ways.items():
            with captured_mlps(lm) as io:
                hidden_Nd = hidden_states(lm, texts, stand_ins)
            if name == "original":
                _linear_error(io, texts, linear, error_L, spread_L)
            ((ce_N, _),) = token_losses(lm, [hidden_Nd], texts.target_N, hidden_Nd)
            sums[name] += float(ce_N.sum())
            with replaced_mlps(lm, stand_ins):
                scores_BK = score_labels(lm, texts.cells, lm.labels, lead, batch=BATCH)
            guesses[name] += predicted(scores_BK, lm.labels)
    ce = {name: total / n_tokens for name, total in sums.items()}
    answers = {name: np.array(found) for name, found in guesses.items()}
    return RecipeFigures(
        n=len(truth),
        tokens=n_tokens / len(truth),
        ce=ce,
        recovered={name: ce_recovered(ce["zero"], value, ce["original"]) for name, value in ce.items()},
        accuracy={name: agreement(found, truth) for name, found in answers.items()},
        agreement={name: agreement(found, answers["original"]) for name, found in answers.items()},
        fvu=tuple(float(fvu(e, s.squares)) for e, s in zip(error_L, spread_L, strict=True)),
    )


def _linear_error(io, texts: Texts, linear, error_L: np.ndarray, spread_L: Sequence[RunningVariance]) -> None:
    real_BT = texts.real_BT.bool()
    for k, (x_BTd, y_BTd) in enumerate(zip(io.inputs, io.outputs, strict=True)):
        y_Nd = y_BTd[real_BT].double()
        error_L[k] += float((linear[k](x_BTd[real_BT]).double() - y_Nd).square().sum())
        spread_L[k].add(y_Nd)


def choosing_split(table: CellTable, train: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(rows to train on, rows to choose on), both from the training cells `train`; stratified."""
    rng = np.random.default_rng(CHOOSING_SEED)
    chosen: list[int] = []
    for label in sorted(set(table.labels[train].tolist())):
        mine = train[table.labels[train] == label]
        chosen += rng.permutation(mine)[: max(1, round(CHOOSING * len(mine)))].tolist()
    out = np.isin(train, chosen)
    return train[~out], train[out]


def try_recipe(
    name: str,
    recipe: RecipeConfig,
    sentences: SentenceConfig,
    folder: Path,
    table: CellTable | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Train a recipe without the choosing cells, judge it on them, and keep `judged.json` in `folder`/`name`.

    A run that is there goes on from its last checkpoint.
    """
    table = table or open_cells("embedded")
    fit, choose = choosing_split(table, split_cells(table).train)
    since = time.process_time()
    run = (
        RunFolder.open(folder / name)
        if (folder / name).exists()
        else RunFolder.create(folder, "recipe", recipe, name)
    )
    model = run.path / "model"
    if (model / "scx.json").exists():
        lm = load_language(model, "cpu")
    else:
        trained = train_model(run, table, fit, model, recipe, sentences, name=name, progress=progress)
        assert trained is not None  # nobody asks it to stop
        lm = trained
    minutes = (time.process_time() - since) / 60
    judged = judge(lm, table, choose, fit)
    found = {
        "name": name,
        "recipe": to_dict(recipe),
        "sentences": to_dict(sentences),
        "parameters": sum(p.numel() for p in lm.model.parameters()),
        "cpu_minutes": minutes,
        **judged._asdict(),
    }
    write_json(run.path / "judged.json", found)
    return found


def parse(settings: Sequence[str]) -> tuple[RecipeConfig, SentenceConfig]:
    """Settings such as `vocabulary=400` or `n_genes=100` over the defaults."""
    kinds = {"str": str, "int": int, "float": float}
    recipe, sentences = RecipeConfig(), SentenceConfig()
    for setting in settings:
        key, _, value = setting.partition("=")
        holder = recipe if hasattr(recipe, key) else sentences
        changed = {key: kinds[type(getattr(holder, key)).__name__](value)}
        if holder is recipe:
            recipe = dataclasses.replace(recipe, **changed)
        else:
            sentences = dataclasses.replace(sentences, **changed)
    return recipe, sentences


def row(found: dict[str, Any]) -> str:
    """One line of the table."""
    ce, part, same, right = (found[key] for key in ("ce", "recovered", "agreement", "accuracy"))
    low, high = wilson(round(right["original"] * found["n"]), found["n"])
    return " | ".join(
        (
            found["name"],
            f"{right['original']:.3f} [{low:.2f}, {high:.2f}]",
            *(f"{part[way]:.3f}" for way in ("linear", "mean")),
            *(f"{same[way]:.3f}" for way in ("linear", "mean", "zero")),
            *(f"{right[way]:.3f}" for way in ("linear", "mean", "zero")),
            " ".join(f"{ce[way]:.2f}" for way in ("original", "linear", "mean", "zero")),
            " ".join(f"{share:.2f}" for share in found["fvu"]),
            f"{found['tokens']:.0f}",
            f"{found['cpu_minutes']:.1f}",
        )
    )


def table_of(rows: Sequence[dict[str, Any]]) -> str:
    """The table as Markdown."""
    header = (
        "recipe", "accuracy", "CE: linear", "CE: mean", "same: linear", "same: mean", "same: zero",
        "right: linear", "right: mean", "right: zero", "CE of each", "FVU of linear", "tokens", "minutes",
    )  # fmt: skip
    return "\n".join(
        [f"| {' | '.join(header)} |", "|" + "---|" * len(header), *(f"| {row(found)} |" for found in rows)]
    )


def bench_recipes(folder: Path, only: Sequence[str] = (), progress: Progress = silent) -> dict[str, Any]:
    """Train and judge the variants of `only` (default: all) that `folder` does not have; the table of all
    that it has. Raises ScxError for a name that is no variant."""
    unknown = [name for name in only if name not in VARIANTS]
    if unknown:
        raise ScxError(f"There is no recipe {unknown[0]!r}.", f"Known: {', '.join(VARIANTS)}.")
    for name in only or VARIANTS:
        if not (folder / name / "judged.json").exists():
            recipe, sentences = parse(VARIANTS[name].split())
            try_recipe(name, recipe, sentences, folder, progress=progress)
    done = [folder / name / "judged.json" for name in VARIANTS]
    return {"machine": machine(), "recipes": [read_json(path) for path in done if path.exists()]}
