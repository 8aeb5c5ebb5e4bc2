"""The two loops of a training: layer by layer, then all layers together; what they measure and keep.

The best checkpoint is the one with the lowest CE, with every MLP replaced, of those that were measured.
Several processes that share out the cells measure and tune together; where they share out the layers, these
are collected from all of them, and rank 0 does so alone. It alone writes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from scx_core.errors import ScxError
from scx_core.runs import Progress, RunFolder
from scx_core.runs.ranks import RankFile
from scx_core.training.calibrate import calibrated
from scx_core.training.config import TrainConfig
from scx_core.training.finetune import FineTune, rate_of_step
from scx_core.training.micro_batch import Micro
from scx_core.training.plan import memory_of
from scx_core.training.replacement_quality import spliced
from scx_core.training.run_cost import Spent
from scx_core.training.tokens import Texts, cells_of_step
from scx_core.training.trainer_state import Session, StepReport
from scx_core.transcoders.module import TranscoderSet

INFINITE = float("inf")
SCORE = "ce_transcoder"  # of what is measured, what the best checkpoint has lowest


class Around(NamedTuple):
    """What a loop reads and writes besides the layers: where it keeps things, the cells that it chooses on
    and those that only the finished set is measured on, what it has cost, who is told, and whether it is
    asked to stop. `fits` are the cells that thresholds are fitted on (None: those to train on)."""

    run: RunFolder
    rank: RankFile
    choosing: Texts
    fits: Texts | None
    held_out: Texts
    spent: Spent
    progress: Progress
    stopping: Callable[[], bool]


def train_layers(session: Session, first: int, around: Around) -> bool:
    """The steps from `first` on. False when it was asked to stop: a whole team stops at the same step.

    Raises ScxError when a loss or a weight is not finite, or another process is gone.
    """
    cfg, team, run, spent = session.train, session.plan.team, around.run, around.spent
    lowest = next(iter(run.scores().values()), INFINITE)
    since, tokens = time.perf_counter(), 0
    for done in range(first + 1, cfg.steps + 1):
        report, measured = session.step(done - 1), {}
        tokens += report.tokens
        spent.read(report.tokens)
        speed = tokens / (time.perf_counter() - since)
        _say(run, done, session.plan.micro)
        evaluated = done % cfg.evaluate_every == 0 or done == cfg.steps
        if evaluated:
            measured = _measured(
                session, calibrated(session, around.fits), around.choosing
            )  # as the finished set
            team.meet()  # where layers are shared out, rank 0 measures alone
        if evaluated or done % cfg.log_every == 0:
            run.log(_record(done, report, speed) | spent.state | measured)
            since, tokens = time.perf_counter(), 0
        score = measured.get(SCORE, INFINITE)
        better = evaluated and team.any(score < lowest)
        lowest = min(lowest, score)
        stop = team.any(done < cfg.steps and around.stopping())
        if done % cfg.checkpoint_every == 0 or done == cfg.steps or stop or better:
            _checkpoint(around, done, session.tensors(), session, measured.get(SCORE))
            team.meet()  # rank 0 writes alone
        around.rank.write(step=done, tokens_per_second=round(speed), memory=memory_of(session.lm.device))
        run.write_status("stopped" if stop else "running", done, cfg.all_steps, "training")
        around.progress(done, cfg.all_steps, "training")
        if stop:
            return False
    return True


def tune_together(
    session: Session, coders: TranscoderSet, before: dict[str, torch.Tensor], around: Around
) -> TranscoderSet | None:
    """The last steps, all layers together; what the layers were `before` them stays in each checkpoint. None
    when it was asked to stop: a whole team stops at the same step. Raises ScxError as `train_layers` does."""
    cfg, run, saved, micro = session.train, around.run, around.run.latest_checkpoint(), session.plan.micro
    team, first = session.plan.partners, 0
    tune = FineTune(session.lm, coders, cfg.finetune_rate, micro, team)
    if saved is not None and saved.step > cfg.steps:
        first = saved.step - cfg.steps
        tune = FineTune.restored(session.lm, coders, cfg.finetune_rate, saved.tensors, micro, team)
    for step in range(first, cfg.finetune_steps):
        # Another seed: the cells go on in an order of their own.
        cells = cells_of_step(step, session.texts.n_cells, cfg.cells_per_batch, cfg.seed + 2)
        share = rate_of_step(step, cfg.finetune_steps)
        report = tune.step(session.texts, cells, share, cfg.answer_weight)
        around.spent.read(report.tokens)
        done, last = cfg.steps + step + 1, step + 1 == cfg.finetune_steps
        _say(run, done, micro)
        measured = _measured(session, tune.finished(), around.choosing) if last else {}
        if (step + 1) % cfg.log_every == 0 or last:
            record = {"step": done, "tune_kl": report.kl, "tune_fvu": report.fvu}
            run.log(record | around.spent.state | measured)
        stop = team.any(not last and around.stopping())
        if (step + 1) % cfg.checkpoint_every == 0 or last or stop:
            _checkpoint(around, done, before | tune.tensors(), session, measured.get(SCORE))
            team.meet()  # rank 0 writes alone
        around.rank.write(step=done, memory=memory_of(session.lm.device))
        run.write_status("stopped" if stop else "running", done, cfg.all_steps, "tuning all layers together")
        around.progress(done, cfg.all_steps, "training")
        if stop:
            return None
    return tune.finished()


def at_its_best(session: Session, run: RunFolder) -> Session:
    """The session after the last step of `train_layers`, or as it was at the best one, where that is asked
    for (`best_at_end`)."""
    best = run.best_checkpoint() if step_to_end_with(session.train, run) < session.train.steps else None
    if best is None:
        # That of a checkpoint of the tuning, too, is the session that the tuning began with.
        return session
    restored = type(session).restored(
        session.lm, session.texts, session.cfg, session.train, best.tensors, session.plan
    )
    session.plan.team.meet()  # before rank 0 writes the next one
    return restored


def step_to_end_with(cfg: TrainConfig, run: RunFolder) -> int:
    """The step, after the last one, whose layers are the result."""
    return next(iter(run.scores()), cfg.all_steps) if cfg.best_at_end else cfg.all_steps


def _say(run: RunFolder, step: int, micro: Micro) -> None:
    """A micro-batch that has become smaller, in the run's records."""
    if note := micro.pop_note():
        run.log({"step": step, "note": note, "micro_batch_cells": micro.cells})


def _checkpoint(
    around: Around, step: int, tensors: dict[str, torch.Tensor], session: Session, score: float | None
) -> None:
    """Keep the state, unless it is spoilt: it would take the place of a good one."""
    spoilt = [name for name, t in tensors.items() if t.is_floating_point() and not bool((t < INFINITE).all())]
    if spoilt:
        raise ScxError(
            f"After step {step} {spoilt[0]} is not finite; this state was not kept.",
            "The last checkpoint is. Start a run with a lower learning rate, or check the model.",
        )
    around.run.save_checkpoint(step, tensors, session.plan.state | around.spent.state, score=score)


def _record(step: int, report: StepReport, speed: float) -> dict[str, Any]:
    return {
        "step": step,
        "loss": report.loss,
        "fvu": report.fvu,
        "l0": report.l0,
        "dead": report.dead,
        "tokens_per_second": round(speed),
    }


def _measured(session: Session, coders: TranscoderSet | None, choosing: Texts) -> dict[str, float]:
    """Losses with every MLP replaced, on some of the cells that choose."""
    if coders is None:  # rank 0 has them, and does it alone
        return {}
    cells = range(min(session.train.evaluate_cells, choosing.n_cells))
    found = spliced(session.lm, coders, choosing, cells, team=session.plan.partners)
    return {**found._asdict(), "ce_recovered": found.ce_recovered}
