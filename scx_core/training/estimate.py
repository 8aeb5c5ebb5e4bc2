"""What a training run will take, measured by a trial step before it is started."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from scx_core.language import Language, fast_attention
from scx_core.training.config import TrainConfig, TranscoderConfig
from scx_core.training.distributed import ALONE
from scx_core.training.finetune import FineTune
from scx_core.training.plan import make_plan, memory_in_words
from scx_core.training.tokens import TokenTexts
from scx_core.training.trainer_state import TrainerState

TOKENS_A_GENE = 2.5  # sub-word tokens of a gene's name, as the tokenizers tried here spell them
PROMPT_TOKENS = 20
TRIAL_STEPS = 2


class TrainingEstimate(NamedTuple):
    """Time of the whole run, memory it needs beside the model (bytes), weights trained, tokens a step."""

    seconds: float
    bytes: int
    parameters: int
    tokens_per_step: int


def estimate(
    lm: Language,
    transcoder: TranscoderConfig,
    train: TrainConfig,
    n_cells: int,
    tokens_per_cell: int | None = None,
) -> TrainingEstimate:
    """Run a few steps on random tokens of the usual length and extrapolate, those at the end with all layers
    together too; measuring is left out. Takes a few steps' time.

    `tokens_per_cell` defaults to a guess from the number of genes in a sentence. Raises ScxError when the
    memory does not suffice.
    """
    guess = round(lm.sentence_config.n_genes * TOKENS_A_GENE) + PROMPT_TOKENS
    length = min(tokens_per_cell or guess, lm.facts.context)
    cells = min(train.cells_per_batch, n_cells)
    ids = np.random.default_rng(train.seed).integers(0, len(lm.tokenizer), cells * length).astype(np.int32)
    texts = TokenTexts(ids, np.arange(cells + 1) * length, np.zeros(cells, dtype=int))
    with fast_attention(lm), memory_in_words():
        plan = make_plan(lm, texts, transcoder, train, ALONE)
        state = TrainerState.fresh(lm, texts, transcoder, train, plan)
        seconds = train.steps * _seconds(lambda step: state.step(step % train.steps))
        coders = state.coders() if train.finetune_steps else None
        if coders is not None:
            tune = FineTune(lm, coders, train.finetune_rate, plan.micro)
            seconds += train.finetune_steps * _seconds(lambda step: tune.step(texts, range(cells), 1.0))
    parameters = sum(tensor.numel() for layer in state.layers for tensor in layer.weights.values())
    tokens, d = cells * length, lm.facts.width
    # Weights, gradients and Adam's two moments; inputs and outputs of every MLP; one layer's pre-activations.
    activations = 2 * tokens * d * lm.facts.n_layers + 3 * tokens * d * transcoder.expansion
    return TrainingEstimate(seconds, 4 * (4 * parameters + activations), parameters, tokens)


def _seconds(step: Callable[[int], object]) -> float:
    """Of one step, after a first one, which allocates."""
    step(0)
    since = time.perf_counter()
    for number in range(1, TRIAL_STEPS + 1):
        step(number)
    return (time.perf_counter() - since) / TRIAL_STEPS
