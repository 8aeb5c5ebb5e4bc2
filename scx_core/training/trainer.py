"""The two loops of a training: layer by layer, then all layers together; what they measure and keep.

Thresholds of the finished set are fitted: where tokens have as many active features as were asked for.
The best checkpoint is the one with the lowest CE, with every MLP replaced, of those that were measured.
Several processes that share out the cells measure and tune together; where they share out the layers, these
are collected from all of them, and rank 0 does so alone. It alone writes.
Legend: T tokens, d width, N pre-activations.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch

from scx_core.errors import ScxError
from scx_core.runs import Progress, RunFolder
from scx_core.runs.micro_batch import MicroBatch
from scx_core.runs.ranks import RankFile
from scx_core.training.config import TrainConfig
from scx_core.training.evaluation import CALIBRATION_WORK, affordable, calibrating, spliced
from scx_core.training.finetune import FineTune, cells_of_tuning, rate_of_step
from scx_core.training.keeping import CheckpointWriter
from scx_core.training.layer_trainer import LayerTrainer
from scx_core.training.plan import memory_of, slices, training_batch
from scx_core.training.tokens import TokenTexts, cells_of_step
from scx_core.training.trainer_state import StepReport, TrainerState
from scx_core.transcoders.module import TranscoderSet

INFINITE = float("inf")
NEAR = 0.005  # share of the active features that a calibrated threshold may be off, to lie in a gap
SCORE = "ce_transcoder"  # of what is measured, what the best checkpoint has lowest


class RunCost:
    """Tokens read by the steps, and seconds: of the steps and of what lies between them (measurements,
    checkpoints). Work that was lost in a kill and done again counts once."""

    def __init__(self, before: Mapping[str, Any] | None = None) -> None:
        """`before` is the state of the checkpoint that is gone on from; of one that does not say, nothing is
        known from then on."""
        before = {"tokens": 0, "seconds": 0.0} if before is None else before
        self._known = {"tokens", "seconds"} <= before.keys()
        self._tokens, self._seconds = int(before.get("tokens", 0)), float(before.get("seconds", 0.0))
        self._since = time.perf_counter()

    def read(self, tokens: int) -> None:
        """A step read so many tokens."""
        self._tokens += tokens

    @property
    def state(self) -> dict[str, Any]:
        """Both, for a record and for a checkpoint; nothing where they are not known."""
        if not self._known:
            return {}
        seconds = self._seconds + time.perf_counter() - self._since
        return {"tokens": self._tokens, "seconds": round(seconds, 3)}


class RunContext(NamedTuple):
    """What a loop reads and writes besides the layers: where it keeps things, the cells that it chooses on
    and those that only the finished set is measured on, what it has cost, who is told, and whether it is
    asked to stop. `fits` are the cells that thresholds are fitted on (None: those to train on); `keep` writes
    the checkpoints."""

    run: RunFolder
    rank: RankFile
    choosing: TokenTexts
    fits: TokenTexts | None
    held_out: TokenTexts
    spent: RunCost
    progress: Progress
    stopping: Callable[[], bool]
    keep: CheckpointWriter


def train_layers(state: TrainerState, first: int, context: RunContext) -> bool:
    """The steps from `first` on. False when it was asked to stop: a whole team stops at the same step.

    Raises ScxError when a loss or a weight is not finite, or another process is gone.
    """
    cfg, team, run, spent = state.train, state.plan.team, context.run, context.spent
    lowest = next(iter(run.scores().values()), INFINITE)
    since, tokens = time.perf_counter(), 0
    for done in range(first + 1, cfg.steps + 1):
        report, measured = state.step(done - 1), {}
        tokens += report.tokens
        spent.read(report.tokens)
        speed = tokens / (time.perf_counter() - since)
        _say(run, done, state.plan.micro)
        evaluated = done % cfg.evaluate_every == 0 or done == cfg.steps
        if evaluated:
            measured = _measured(
                state, calibrated(state, context.fits), context.choosing
            )  # as the finished set
            team.meet()  # where layers are shared out, rank 0 measures alone
        if evaluated or done % cfg.log_every == 0:
            run.log(_record(done, report, speed) | spent.state | measured)
            since, tokens = time.perf_counter(), 0
        score = measured.get(SCORE, INFINITE)
        better = evaluated and team.any(score < lowest)
        lowest = min(lowest, score)
        stop = team.any(done < cfg.steps and context.stopping())
        due = done % cfg.checkpoint_every == 0 and team.any(team.leads and context.keep.due())
        last = done == cfg.steps or stop
        if due or last or better:
            _checkpoint(context, done, state.tensors(), state, measured.get(SCORE))
            if last:
                context.keep.wait()  # it is gone on from
            team.meet()  # rank 0 writes alone
        context.rank.write(step=done, tokens_per_second=round(speed), memory=memory_of(state.lm.device))
        run.write_status("stopped" if stop else "running", done, cfg.all_steps, "training")
        context.progress(done, cfg.all_steps, "training")
        if stop:
            return False
    return True


def tune_together(
    state: TrainerState, coders: TranscoderSet, before: dict[str, torch.Tensor], context: RunContext
) -> TranscoderSet | None:
    """The last steps, all layers together; what the layers were `before` them stays in each checkpoint. None
    when it was asked to stop: a whole team stops at the same step. Raises ScxError as `train_layers` does."""
    cfg, run, saved, micro = state.train, context.run, context.run.latest_checkpoint(), state.plan.micro
    team, first = state.plan.partners, 0
    state.optimizer.zero_grad(set_to_none=True)
    if micro.cells is None:
        micro = training_batch(cells_of_tuning(state.lm, coders, state.texts, cfg.cells_per_batch))
    tune = FineTune(state.lm, coders, cfg.finetune_rate, micro, team)
    if saved is not None and saved.step > cfg.steps:
        first = saved.step - cfg.steps
        tune = FineTune.restored(state.lm, coders, cfg.finetune_rate, saved.tensors, micro, team)
    for step in range(first, cfg.finetune_steps):
        # Another seed: the cells go on in an order of their own.
        cells = cells_of_step(step, state.texts.n_cells, cfg.cells_per_batch, cfg.seed + 2)
        share = rate_of_step(step, cfg.finetune_steps)
        report = tune.step(state.texts, cells, share, cfg.answer_weight)
        context.spent.read(report.tokens)
        done, last = cfg.steps + step + 1, step + 1 == cfg.finetune_steps
        _say(run, done, micro)
        measured = _measured(state, tune.finished(), context.choosing) if last else {}
        if (step + 1) % cfg.log_every == 0 or last:
            record = {"step": done, "tune_kl": report.kl, "tune_fvu": report.fvu}
            run.log(record | context.spent.state | measured)
        stop = team.any(not last and context.stopping())
        due = (step + 1) % cfg.checkpoint_every == 0 and team.any(team.leads and context.keep.due())
        if due or last or stop:
            _checkpoint(context, done, before | tune.tensors(), state, measured.get(SCORE))
            if last or stop:
                context.keep.wait()
            team.meet()  # rank 0 writes alone
        context.rank.write(step=done, memory=memory_of(state.lm.device))
        run.write_status("stopped" if stop else "running", done, cfg.all_steps, "tuning all layers together")
        context.progress(done, cfg.all_steps, "training")
        if stop:
            return None
    return tune.finished()


def at_its_best(state: TrainerState, run: RunFolder) -> TrainerState:
    """The state after the last step of `train_layers`, or as it was at the best one, where that is asked
    for (`best_at_end`)."""
    best = run.best_checkpoint() if step_to_end_with(state.train, run) < state.train.steps else None
    if best is None:
        # That of a checkpoint of the tuning, too, is the state that the tuning began with.
        return state
    restored = type(state).restored(state.lm, state.texts, state.cfg, state.train, best.tensors, state.plan)
    state.plan.team.meet()  # before rank 0 writes the next one
    return restored


def step_to_end_with(cfg: TrainConfig, run: RunFolder) -> int:
    """The step, after the last one, whose layers are the result."""
    return next(iter(run.scores()), cfg.all_steps) if cfg.best_at_end else cfg.all_steps


def _say(run: RunFolder, step: int, micro: MicroBatch) -> None:
    """A micro-batch that has become smaller, in the run's records."""
    if note := micro.pop_note():
        run.log({"step": step, "note": note, "micro_batch_cells": micro.cells})


def _checkpoint(
    context: RunContext, step: int, tensors: dict[str, torch.Tensor], state: TrainerState, score: float | None
) -> None:
    """Keep the state, unless it is spoilt: it would take the place of a good one."""
    floats = {name: t for name, t in tensors.items() if t.is_floating_point()}
    sound = [(t < INFINITE).all().to(state.lm.device) for t in floats.values()]
    of_all = torch.stack(sound).tolist() if sound else []  # a card is asked once
    spoilt = [name for name, good in zip(floats, of_all, strict=True) if not good]
    if spoilt:
        raise ScxError(
            f"After step {step} {spoilt[0]} is not finite; this state was not kept.",
            "The last checkpoint is. Start a run with a lower learning rate, or check the model.",
        )
    context.keep.write(step, tensors, state.plan.state | context.spent.state, score)


def _record(step: int, report: StepReport, speed: float) -> dict[str, Any]:
    return {
        "step": step,
        "loss": report.loss,
        "fvu": report.fvu,
        "l0": report.l0,
        "dead": report.dead,
        "tokens_per_second": round(speed),
    }


def _measured(state: TrainerState, coders: TranscoderSet | None, choosing: TokenTexts) -> dict[str, float]:
    """Losses with every MLP replaced, on some of the cells that choose."""
    if coders is None:  # rank 0 has them, and does it alone
        return {}
    cells = range(min(state.train.evaluate_cells, choosing.n_cells))
    found = spliced(state.lm, coders, choosing, cells, team=state.plan.partners)
    return {**found._asdict(), "ce_recovered": found.ce_recovered}


def calibrated(state: TrainerState, choosing: TokenTexts | None = None) -> TranscoderSet | None:
    """The final transcoders: BatchTopK gated where the tokens of the `choosing` cells (default: of the
    training cells) have k active features on average, and JumpReLU that was held at a target with its
    thresholds moved together until they have as many. Where several processes share out the layers, rank 0
    gets them.

    Raises ScxError when not even one cell at a time fits into the memory.
    """
    cfg, train, plan = state.cfg, state.train, state.plan
    if cfg.kind != "batchtopk" and not (cfg.kind == "jumprelu" and cfg.controlled):
        return state.coders()
    kept = [[torch.zeros(0, device=state.lm.device)] for _ in state.layers]
    texts = state.texts if choosing is None else choosing
    cells = cells_of_step(0, texts.n_cells, _calibrating(state, texts), train.seed + 1)
    batches = [cells[at : at + train.cells_per_batch] for at in range(0, len(cells), train.cells_per_batch)]
    tokens = torch.zeros((), dtype=torch.int64)
    for some in batches[plan.partners.part(len(batches))]:
        for layer, (x_Td, y_Td) in enumerate(state.read(some, texts)):
            kept[layer].append(_largest(state, state.layers[layer], x_Td, y_Td, len(some)))
        tokens += len(x_Td)
    wanted = round((cfg.wanted if cfg.controlled else cfg.k) * int(plan.partners.total(tokens)))
    everyones = [plan.partners.gathered(torch.cat(values)) for values in kept]
    return state.coders([_threshold_at(values_N, wanted) for values_N in everyones])


def _calibrating(state: TrainerState, texts: TokenTexts) -> int:
    """Cells that thresholds are fitted on: as many as the settings say; on a processor no more than
    `CALIBRATION_WORK` operations allow, and no fewer than are measured."""
    tokens = len(texts.ids) / texts.n_cells
    a_cell = tokens * calibrating(state.lm, state.cfg, tokens)
    return min(state.train.calibration_cells, affordable(state.lm, state.train, CALIBRATION_WORK, a_cell))


def _largest(
    state: TrainerState, trainer: LayerTrainer, x_Td: torch.Tensor, y_Td: torch.Tensor, cells: int
) -> torch.Tensor:
    """The largest pre-activations of a batch [N], twice as many as are wanted, found in as many parts as the
    memory asks for."""
    most = round(2 * trainer.cfg.wanted * len(x_Td))

    def attempt(size: int) -> torch.Tensor:
        values_N = x_Td.new_zeros(0)
        for part in slices(len(x_Td), -(-cells // size)):
            values_N = torch.cat([values_N, trainer.largest(x_Td[part], y_Td[part], most)])
            if len(values_N) > most:
                values_N = values_N.topk(most, sorted=False).values
        return values_N

    return state.plan.micro.run(attempt, cells)


def _threshold_at(values_N: torch.Tensor, wanted: int) -> float:
    """A level that about `wanted` of the values lie above: in the middle of the widest gap near that number.

    The prompts of all cells begin with the same words, so the same value comes back once a cell, to rounding.
    A level at a value would let some of them pass and others not, as rounding has it.
    """
    if len(values_N) <= wanted:
        return 0.0
    near = max(1, int(NEAR * wanted))
    first, last = max(0, wanted - near - 1), min(len(values_N), wanted + near + 1)
    near_N = values_N.topk(last).values[first:]
    gap = int((near_N[:-1] / near_N[1:].clamp(min=1e-30)).argmax()) if len(near_N) > 1 else 0
    return float(near_N[gap : gap + 2].mean())
