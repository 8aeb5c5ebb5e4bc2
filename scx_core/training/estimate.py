"""What a training run will take, said before it is started.

A small model tries a few steps. Of a large one on a processor these would take minutes: there operations are
counted, and one timed pass says how fast they are done. Memory is counted for both.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from scx_core.cells import CellTable
from scx_core.language import Language, encode_cells, fast_attention
from scx_core.language.numerics.operations import duration, operations, speed
from scx_core.training.config import TrainConfig, TranscoderConfig
from scx_core.training.evaluation import (
    CALIBRATION_WORK,
    FINAL_WORK,
    affordable,
    calibrating,
    measuring,
)
from scx_core.training.finetune import TUNING_BYTES, FineTune, bytes_of_cells
from scx_core.training.layer_trainer import SCALE_WORK
from scx_core.training.plan import STATE_BYTES, make_plan, memory_in_words, weights_of
from scx_core.training.processes.distributed import ALONE
from scx_core.training.tokens import TokenTexts
from scx_core.training.trainer_state import TrainerState, start_cells

TOKENS_A_GENE = 2.5  # sub-word tokens of a gene's name, as the tokenizers tried here spell them
PROMPT_TOKENS = 20
TRIAL_STEPS = 2
SAMPLE_CELLS = 8  # whose length is taken for that of all
LARGE = 3e11  # operations of a step, from which on it is not tried but counted
BESIDE = 1.3  # what softmax, norms, selection and sums take beside the counted products
WEIGHT_OPERATIONS = 60  # a weight's step of Adam takes as long as so many operations of a product
DRAWN_OPERATIONS = 1500  # so long a weight's first value, drawn and scaled
OPEN = 15.0  # seconds until a large model and the cells are open
CARD = 1.2e14  # operations a second that are assumed of a large graphics card (not measured here)
LONG = 12 * 3600  # seconds from which on a training on a processor is called work for a card


class TrainingEstimate(NamedTuple):
    """Time of the whole run, memory it needs beside the model (bytes), weights trained, tokens a step.

    Where operations were counted: seconds until the first step is done, of a step, of one measurement while
    training and of the one at the end, and on how many cells that is; `card_seconds` of all steps on a large
    graphics card, assumed to do `CARD` operations a second.
    """

    seconds: float
    bytes: int
    parameters: int
    tokens_per_step: int
    first: float = 0.0
    step: float = 0.0
    measure: float = 0.0
    last: float = 0.0
    final_cells: int = 0
    card_seconds: float = 0.0

    def words(self) -> str:
        """The same in a few sentences; where nothing was counted, the time and memory alone."""
        gigabytes = f"{self.bytes / 1e9:,.1f} GB of memory beside the model"
        if not self.step:
            return f"About {duration(self.seconds)} and {gigabytes}."
        found = (
            f"First step after about {duration(self.first)}, then {duration(self.step)} a step of "
            f"{self.tokens_per_step:,} tokens; a measurement takes {duration(self.measure)}, the last one, "
            f"on {self.final_cells:,} cells, {duration(self.last)}. In all about {duration(self.seconds)}, "
            f"and {gigabytes}."
        )
        if self.seconds < LONG:
            return found
        return (
            f"{found} A full training at this size is work for a graphics card: these steps would take about "
            f"{duration(self.card_seconds)} on one that does {CARD:.0e} operations a second (assumed, not "
            "measured here)."
        )


def estimate(
    lm: Language,
    transcoder: TranscoderConfig,
    train: TrainConfig,
    n_cells: int,
    tokens_per_cell: int | None = None,
) -> TrainingEstimate:
    """What a run takes. Of a small model, or on a card: a few steps on random tokens of the usual length,
    those at the end with all layers together too, extrapolated; measuring is left out. Of a large model on a
    processor all of it is counted (`counted`).

    `tokens_per_cell` defaults to a guess from the number of genes in a sentence. Raises ScxError when the
    memory does not suffice.
    """
    guess = round(lm.sentence_config.n_genes * TOKENS_A_GENE) + PROMPT_TOKENS
    length = min(tokens_per_cell or guess, lm.facts.context)
    cells = min(train.cells_per_batch, n_cells)
    ids = np.random.default_rng(train.seed).integers(0, len(lm.tokenizer), cells * length).astype(np.int32)
    texts = TokenTexts(ids, np.arange(cells + 1) * length, np.zeros(cells, dtype=int))
    if lm.device.type == "cpu" and cells * length * _step_operations(lm, transcoder, length) > LARGE:
        return counted(lm, transcoder, train, texts, n_cells)
    with fast_attention(lm), memory_in_words():
        plan = make_plan(lm, texts, transcoder, train, ALONE)
        state = TrainerState.fresh(lm, texts, transcoder, train, plan)
        seconds = train.steps * _seconds(lambda step: state.step(step % train.steps))
        coders = state.coders() if train.finetune_steps else None
        if coders is not None:
            tune = FineTune(lm, coders, train.finetune_rate, plan.micro)
            seconds += train.finetune_steps * _seconds(lambda step: tune.step(texts, range(cells), 1.0))
    parameters = sum(tensor.numel() for layer in state.layers for tensor in layer.weights.values())
    return TrainingEstimate(
        seconds, _bytes(lm, transcoder, train, cells * length, parameters), parameters, cells * length
    )


def said_before(lm: Language, transcoder: TranscoderConfig, train: TrainConfig, table: CellTable) -> str:
    """What a run on these cells will take, in words; "" for a small model, or on a card, where seconds tell
    it."""
    some = encode_cells(lm, table, np.arange(min(SAMPLE_CELLS, table.n_cells)))
    length = round(float(np.mean([len(cell.ids) for cell in some])))
    cells = min(train.cells_per_batch, table.n_cells)
    if lm.device.type != "cpu" or cells * length * _step_operations(lm, transcoder, length) <= LARGE:
        return ""
    return estimate(lm, transcoder, train, table.n_cells, length).words()


def counted(
    lm: Language, transcoder: TranscoderConfig, train: TrainConfig, texts: TokenTexts, n_cells: int
) -> TrainingEstimate:
    """From the sizes of model and set and a timed pass over the first of some `texts`, which are as long as
    the cells' ones. Right within a factor of two where nothing else runs."""
    n, cells = lm.facts.n_layers, texts.n_cells
    length = len(texts.ids) / cells
    tokens, parameters = round(cells * length), weights_of(transcoder, lm.facts.width, n)
    rate = speed(lm, [texts.ids[: int(texts.start[1])].tolist()]) / BESIDE
    a_step = tokens * _step_operations(lm, transcoder, length) + WEIGHT_OPERATIONS * parameters
    step = a_step / rate
    one = operations(lm, length).blocks(n)
    scale = min(SCALE_WORK, 2.0 * length * start_cells(lm, texts) * parameters / n)
    fresh = start_cells(lm, texts) * length * one + n * scale + DRAWN_OPERATIONS * parameters
    test = max(1, round(train.held_out * n_cells))
    n_fit = affordable(lm, train, CALIBRATION_WORK, length * calibrating(lm, transcoder, length))
    n_final = min(test, affordable(lm, train, FINAL_WORK, length * measuring(lm, transcoder, length)))
    fit = min(n_fit, train.calibration_cells) * calibrating(lm, transcoder, length)
    measure = length * (fit + min(train.evaluate_cells, test) * measuring(lm, transcoder, length)) / rate
    last = n_final * length * measuring(lm, transcoder, length) / rate
    tune = tokens * (4 * one + 6 * n * _coder(lm, transcoder)) + WEIGHT_OPERATIONS * parameters
    times = -(-train.steps // train.evaluate_every)
    first = OPEN + fresh / rate + step
    seconds = first + (train.steps - 1) * step + times * measure + train.finetune_steps * tune / rate + last
    card = (train.steps * a_step + train.finetune_steps * tune) / CARD
    memory = _bytes(lm, transcoder, train, tokens, parameters)
    return TrainingEstimate(seconds, memory, parameters, tokens, first, step, measure, last, n_final, card)


def _coder(lm: Language, transcoder: TranscoderConfig) -> float:
    return 2.0 * transcoder.expansion * lm.facts.width**2


def _step_operations(lm: Language, transcoder: TranscoderConfig, length: float) -> float:
    """Of a token: the model's pass, every dense encoder, and the pairs of active features."""
    n, d = lm.facts.n_layers, lm.facts.width
    return operations(lm, length).blocks(n) + n * (_coder(lm, transcoder) + 10.0 * transcoder.wanted * d)


def _bytes(
    lm: Language, transcoder: TranscoderConfig, train: TrainConfig, tokens: int, parameters: int
) -> int:
    """Weights, gradients and Adam's two moments; inputs and outputs of every MLP; one layer's
    pre-activations. The steps of all layers together may need more."""
    d, n = lm.facts.width, lm.facts.n_layers
    activations = 2 * tokens * d * n + 3 * tokens * d * transcoder.expansion
    alone = STATE_BYTES * parameters + 4 * activations
    if not train.finetune_steps:
        return alone
    together = bytes_of_cells(lm, transcoder.expansion * d, tokens)
    return max(alone, round(TUNING_BYTES * parameters + together))


def _seconds(step: Callable[[int], object]) -> float:
    """Of one step, after a first one, which allocates."""
    step(0)
    since = time.perf_counter()
    for number in range(1, TRIAL_STEPS + 1):
        step(number)
    return (time.perf_counter() - since) / TRIAL_STEPS
