"""Random plantings: small models that learn random rules, and what the software recovers of them.

For every four plantings (`scx_core/evidence/random_plantings.py`), in this order:
 1. simulated cells of their rules; a tenth is held out;
 2. a model of two blocks, sequential, ReLU, whose attention patterns are a plain mean (as the shipped planted
    model's, so that whatever combines genes lies in its MLPs), trained on the answers alone;
 3. trained transcoders of the recommended kind for it;
 4. the scores, one file a planting; what is there already is not made again.
A control trains the same on labels that are permuted within each rule: there is nothing to find.
Legend: B cells, T positions, V vocabulary, d width, N answer tokens of a batch.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch.nn import functional as F
from transformers import GPTNeoXForCausalLM

from scx_core.build.language_training import context_length, save_model, take_step, training_texts
from scx_core.build.recipe import (
    RecipeConfig,
    make_optimizer,
    new_model,
    train_tokenizer,
    uniform_attention,
)
from scx_core.cells import CellTable, Split, open_cells, planted_cells, split_cells
from scx_core.circuits import Tracer, make_tracer
from scx_core.errors import ScxError
from scx_core.evidence.random_plantings import (
    NEAR,
    SHARE,
    PlantedPool,
    ScoreConfig,
    draw_pool,
    score_plantings,
)
from scx_core.language import Language, load_language
from scx_core.language.numerics.denormals import flushed_subnormals
from scx_core.runs import Progress, read_json, silent, to_dict, write_json
from scx_core.runs.options import option
from scx_core.runs.provenance import provenance
from scx_core.sentences import SentenceConfig
from scx_core.training import train
from scx_core.training.config import TrainConfig, TrainingJob, TranscoderConfig
from scx_core.training.tokens import TokenTexts, cells_of_step, encode_texts
from scx_core.training.train import new_run

A_MODEL = 4  # plantings that share a model
SOME = 400  # cells that the tokenizer and the context's length are fitted on
HELD_OUT, CHOOSE = 0.05, 0.01


@dataclass(frozen=True)
class PlantingsConfig:
    """How many plantings, and how their models are made."""

    plantings: int = option(100, "Random plantings; four share a model", minimum=1)
    permuted: int = option(8, "Plantings of the control, trained on permuted labels", minimum=0)
    genes: int = option(12, "Genes of the pool that rules are drawn from", minimum=6)
    readings: int = option(28_000, "Cells read in training a model, repeats counted", minimum=1)
    drawn: int = option(24_000, "Simulated cells of a model", minimum=50)
    width: int = option(64, "Width of the models", minimum=16)
    coder_steps: int = option(150, "Steps of the transcoders' training", minimum=1)
    tuned_steps: int = option(20, "Steps at the end with all layers together", minimum=0)
    seed: int = option(0, "Seed of rules, cells, weights and draws", minimum=0)
    score: ScoreConfig = field(default_factory=ScoreConfig)

    @property
    def models(self) -> int:
        """Models of the plantings."""
        return -(-self.plantings // A_MODEL)

    @property
    def permuted_models(self) -> int:
        """Models of the control."""
        return -(-self.permuted // A_MODEL)


class _Model(NamedTuple):
    number: int
    permuted: bool

    def file(self, folder: Path, place: int) -> Path:
        """Where the score of one of its plantings is."""
        kind = "permuted" if self.permuted else "planting"
        return folder / f"{kind}-{A_MODEL * self.number + place:03d}.json"


def run_plantings(
    folder: Path, cfg: PlantingsConfig | None = None, progress: Progress = silent
) -> list[dict[str, Any]]:
    """Make and score what is not in `folder` yet; the scores of all plantings and of the control, as JSON.

    Raises ScxError when the folder holds plantings of other settings.
    """
    cfg = cfg or PlantingsConfig()
    _same_settings(folder, cfg)
    wanted = [_Model(n, False) for n in range(cfg.models)]
    wanted += [_Model(n, True) for n in range(cfg.permuted_models)]
    found = []
    for done, model in enumerate(wanted):
        progress(done, len(wanted), f"model {done + 1} of {len(wanted)}: {A_MODEL} plantings")
        files = [model.file(folder, place) for place in range(A_MODEL)]
        if not all(file.exists() for file in files):
            for file, score in zip(files, _scores(model, cfg), strict=True):
                write_json(file, score)
        found += [read_json(file) for file in files]
    progress(len(wanted), len(wanted), "")
    return _asked(found, cfg)


def _asked(found: list[dict[str, Any]], cfg: PlantingsConfig) -> list[dict[str, Any]]:
    """No more than were asked for: the last model may have some to spare."""
    most = {False: cfg.plantings, True: cfg.permuted}
    return [one for one in found if one["planting"] < most[one["permuted"]]]


def _same_settings(folder: Path, cfg: PlantingsConfig) -> None:
    """Scores of other settings are not mixed with these; how many are asked for may change."""
    own = {name: value for name, value in to_dict(cfg).items() if name not in ("plantings", "permuted")}
    path = folder / "plantings.json"
    if path.exists() and read_json(path) != own:
        raise ScxError(f"{folder} holds plantings of other settings.", "Give another folder (--out).")
    folder.mkdir(parents=True, exist_ok=True)
    write_json(path, own)


def _scores(model: _Model, cfg: PlantingsConfig) -> list[dict[str, Any]]:
    """Steps 1 to 4 for one model."""
    started = time.process_time()
    pool = draw_pool(model.number, cfg.seed, cfg.genes)
    table = _table(pool, model, cfg)
    with tempfile.TemporaryDirectory() as place, _quiet():
        tracer, split = make_planted(Path(place), table, cfg, model.number)
        # In the control no cell is right but by chance, and there is no rule to keep.
        score = replace(cfg.score, seed=cfg.seed, features=cfg.score.features and not model.permuted)
        scores = score_plantings(tracer, pool, split.held_out, score, only_right=not model.permuted)
        about = provenance(config=to_dict(cfg), data=table, seed=cfg.seed)
    seconds = (time.process_time() - started) / len(scores)
    extra = {
        "permuted": model.permuted,
        "table_genes": table.n_genes,
        "cpu_seconds": seconds,
        "provenance": about,
    }
    return [one.to_json() | extra for one in scores]


def _table(pool: PlantedPool, model: _Model, cfg: PlantingsConfig) -> CellTable:
    """Simulated cells of these rules; for the control with labels permuted within each rule."""
    share = [SHARE[one.kind] for one in pool.plantings]
    cells = planted_cells(cfg.drawn, cfg.seed + model.number, pool.rules, pool.genes, NEAR, share)
    if model.permuted:
        rng = np.random.default_rng([cfg.seed, model.number, 1])
        labels = cells.obs["label"].to_numpy(dtype=object).copy()
        for rule in cells.obs["rule"].unique():
            own = np.flatnonzero(cells.obs["rule"].to_numpy() == rule)
            labels[own] = labels[rng.permutation(own)]
        cells.obs["label"] = labels
    return open_cells(cells)


@contextmanager
def _quiet() -> Iterator[None]:
    """No bars of transformers for models of a second."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    yield


def make_planted(folder: Path, table: CellTable, cfg: PlantingsConfig, number: int) -> tuple[Tracer, Split]:
    """A model and trained transcoders for cells of planted rules, and the split of these cells."""
    split = split_cells(table, HELD_OUT, "stratified", cfg.seed, CHOOSE)
    recipe = _recipe(cfg, number)
    sentences = SentenceConfig(n_genes=table.n_genes)
    lm = _model(folder / "model", table, split, recipe, sentences)
    job = TrainingJob(
        model=str(folder / "model"),
        sentences=sentences,
        transcoder=TranscoderConfig(skip=True),
        train=TrainConfig(
            steps=cfg.coder_steps,
            warmup=min(20, cfg.coder_steps),
            finetune_steps=cfg.tuned_steps,
            evaluate_every=10_000,
            checkpoint_every=10_000,
            cells_per_batch=32,
            seed=cfg.seed,
        ),
    )
    coders = train(new_run(folder / "runs", job, lm, table, "transcoders"), lm, table)
    assert coders is not None  # nobody asks it to stop
    return make_tracer(lm, coders, table), split


def _recipe(cfg: PlantingsConfig, number: int) -> RecipeConfig:
    return RecipeConfig(
        width=cfg.width,
        layers=2,
        residual="sequential",
        activation="relu",
        attention="uniform",
        mlp_start=4.0,
        vocabulary=900,
        readings=cfg.readings,
        batch=16,
        learning_rate=2e-3,
        weight_decay=0.01,
        dropout=0.0,
        gene_dropout=0.0,
        seed=cfg.seed + number,
    )


def _model(
    folder: Path, table: CellTable, split: Split, recipe: RecipeConfig, sentences: SentenceConfig
) -> Language:
    """A model trained on answers alone, on texts that are written once."""
    some = split.train[:SOME]
    tokenizer = train_tokenizer(training_texts(table, some, sentences, recipe.seed), recipe.vocabulary)
    model = new_model(recipe, len(tokenizer), context_length(table, some, tokenizer, sentences))
    about = {
        "name": "planted rules (simulated)",
        "labels": table.types,
        "sentences": to_dict(sentences),
        "lead": " ",
        "recipe": to_dict(recipe),
        "split": split.to_json(),
        "provenance": provenance(config=to_dict(recipe), data=table, seed=recipe.seed),
    }
    save_model(folder, model, tokenizer, about)
    lm = load_language(folder, "cpu")
    texts = encode_texts(lm, table, split.train, sentences)
    with flushed_subnormals():
        train_on_answers(lm, texts, recipe)
    assert isinstance(lm.model, GPTNeoXForCausalLM)
    save_model(folder, lm.model, tokenizer, about)
    return load_language(folder, "cpu")


def train_on_answers(lm: Language, texts: TokenTexts, recipe: RecipeConfig) -> None:
    """The recipe's steps on the cross-entropy of the answers' tokens, end-of-text included."""
    model = lm.model.train().requires_grad_(True)
    assert isinstance(model, GPTNeoXForCausalLM)
    if recipe.attention == "uniform":
        uniform_attention(model, recipe)  # what holds queries at 0 is not in the file
    optimizer = make_optimizer(model, recipe)
    for step in range(recipe.steps):
        cells = cells_of_step(step, texts.n_cells, recipe.batch, recipe.seed)
        batch = texts.batch(lm, cells)
        behind = int(texts.answer[cells].max())  # padded on the left: answers end together
        hidden_BTd = model.base_model(
            input_ids=batch.ids_BT, attention_mask=batch.mask_BT, use_cache=False
        ).last_hidden_state
        logits_BTV = model.get_output_embeddings()(hidden_BTd[:, -behind:-1])
        loss = F.cross_entropy(logits_BTV.flatten(0, 1), batch.ids_BT[:, 1 - behind :].flatten())
        take_step(model, optimizer, loss, recipe, step)
    model.eval().requires_grad_(False)
