"""Train a transcoder set in a run folder: started, stopped, killed and resumed with the same result.

run.json       the TrainingJob     split.json      cells trained on and held out
metrics.jsonl  a record every log_every steps      tokens/         the cells as the model reads them
transcoders/   the finished set
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch

from scx_core.cells import CellTable, Split, split_cells
from scx_core.errors import ScxError
from scx_core.language import Language
from scx_core.language.numbers import flushed_subnormals
from scx_core.runs import RunFolder, from_dict, provenance, read_json, stop_requested, to_dict, write_json
from scx_core.runs.progress import Progress, silent
from scx_core.runs.ranks import Onlooker, RankFile
from scx_core.transcoders.config import TrainConfig, TrainingJob
from scx_core.transcoders.cross_session import session_of
from scx_core.transcoders.distributed import ALONE, Team
from scx_core.transcoders.finetune import FineTune, rate_of_step
from scx_core.transcoders.folder import load_set, save_set
from scx_core.transcoders.kept import Stopped, kept_texts
from scx_core.transcoders.module import TranscoderSet
from scx_core.transcoders.plan import compiled, make_plan, memory_of
from scx_core.transcoders.quality import held_out_metrics, spliced
from scx_core.transcoders.session import Session, StepReport, fast_attention
from scx_core.transcoders.tokens import Texts, cells_of_step, encode_texts

INFINITE = float("inf")
FINAL_CELLS = 512  # held-out cells that the figures beside the finished set are measured on


def new_run(
    root: Path | str,
    job: TrainingJob,
    lm: Language,
    table: CellTable,
    name: str | None = None,
    argv: Sequence[str] = (),
) -> RunFolder:
    """A run folder with its split, ready for `train`. Raises ScxError when the cells cannot be split."""
    record = provenance(config=to_dict(job), data=table, model=lm, seed=job.train.seed)
    split = training_split(lm, table, job.train)
    run = RunFolder.create(root, "train", job, name, provenance=record, argv=argv)
    write_json(run.path / "split.json", split.to_json())
    return run


def training_split(lm: Language, table: CellTable, cfg: TrainConfig) -> Split:
    """The cells to train on. "model" takes over the language model's own split when it was made on these
    very cells, as a held-out cell must be new to both; otherwise it is stratified."""
    own = lm.settings.get("split")
    cells = lm.settings.get("provenance", {}).get("data", {}).get("fingerprint")
    if cfg.split_by == "model" and own and cells == table.fingerprint:
        return Split.from_json(own)
    by = "stratified" if cfg.split_by == "model" else cfg.split_by
    return split_cells(table, cfg.held_out, by, cfg.seed)


def train(
    run: RunFolder, lm: Language, table: CellTable, progress: Progress = silent, team: Team = ALONE
) -> TranscoderSet | None:
    """Train to the end, from the latest checkpoint if there is one; None when asked to stop (SIGTERM) before.

    A finished run returns its set. All processes of a `team` call it; rank 0 alone writes, and alone gets the
    set. Raises ScxError when model or cells are not those that the run began with, when a loss is not a
    number, when another process holds the run, or when one of the team is gone.
    """
    job = from_dict(TrainingJob, run.config)
    finished = run.path / "transcoders"
    if (finished / "scx.json").exists():
        return load_set(finished, lm.device)
    run = run if team.leads else Onlooker.of(run)
    rank = RankFile(run, team.rank, team.size, str(lm.device))
    with (
        run.lock(),
        rank.until_the_end(),
        stop_requested() as stopping,
        fast_attention(lm),
        flushed_subnormals(),
        ExitStack() as inside,
    ):
        try:
            inside.enter_context(compiled(lm, job.train.compile))
            _check_same(run, lm, table)
            run.write_status("running", run.status().done, job.train.all_steps, "reading cells")
            split = Split.from_json(read_json(run.path / "split.json"))
            tokens, shown = run.path / "tokens", _in_status(run, job.train, progress)
            skip = job.train.skip_prompt
            stop = stopping if team.size == 1 else None  # a team stops together, at a step
            with team.after_leader():  # it writes the tokens that the others read
                texts = kept_texts(tokens, lm, table, split.train, job.sentences, shown, skip, stop)
            held_out = encode_texts(lm, table, measured_cells(split), job.sentences)
            session, first = _open_session(run, lm, texts, job, team)
            if not _loop(run, session, held_out, first, stopping, progress, rank):
                return None
            coders = session.calibrated()
            before = session.tensors() if job.train.finetune_steps else {}
            if coders is None:
                return None  # what is left is the work of one process
            if job.train.finetune_steps:
                tuned = _tune(run, session, coders, before, held_out, stopping, progress)
                if tuned is None:
                    return None
                coders = tuned
            return _finish(run, job, lm, coders, held_out, finished, progress)
        except Stopped:
            run.write_status("stopped", run.status().done, job.train.all_steps, "reading cells")
            return None
        except ScxError as error:
            status = run.status()
            run.write_status("failed", status.done, job.train.all_steps, error.problem, error=str(error))
            raise


def _in_status(run: RunFolder, cfg: TrainConfig, progress: Progress) -> Progress:
    """What is done before the first step, told in the run's status too: it can take minutes."""
    before = run.status().done

    def show(done: int, total: int, message: str) -> None:
        run.write_status("running", before, cfg.all_steps, f"{message}: {done:,} of {total:,}")
        progress(done, total, message)

    return show


def measured_cells(split: Split) -> np.ndarray:
    """Held-out rows that figures are measured on, in a fixed random order: a file may be sorted by type."""
    return np.random.default_rng(split.seed).permutation(split.held_out)[:FINAL_CELLS]


def _check_same(run: RunFolder, lm: Language, table: CellTable) -> None:
    """A run resumed on other cells or another model would end as a set of neither."""
    for what, now in (("model", lm.fingerprint), ("data", table.fingerprint)):
        then = run.provenance.get(what, {}).get("fingerprint", now)
        if then != now:
            raise ScxError(
                f"The {what} of the run {run.name} is another now ({now[:12]}) than it was ({then[:12]}).",
                f"Bring back the {what}, or start a new run.",
            )


def _open_session(
    run: RunFolder, lm: Language, texts: Texts, job: TrainingJob, team: Team
) -> tuple[Session, int]:
    """The session and the step to go on with."""
    checkpoint, kind = run.latest_checkpoint(), session_of(job.transcoder)
    # A checkpoint that says nothing of the precision is older than the choice.
    before = {"precision": "float32", **checkpoint.state} if checkpoint else {}
    plan = make_plan(lm, texts, job.transcoder, job.train, team, before)
    if checkpoint is None:
        run.truncate_metrics(-1)
        return kind.fresh(lm, texts, job.transcoder, job.train, plan), 0
    run.truncate_metrics(checkpoint.step)
    session = kind.restored(lm, texts, job.transcoder, job.train, checkpoint.tensors, plan)
    return session, min(checkpoint.step, job.train.steps)


def _loop(
    run: RunFolder,
    session: Session,
    held_out: Texts,
    first: int,
    stopping: Callable[[], bool],
    progress: Progress,
    rank: RankFile,
) -> bool:
    """The steps from `first` on. False when it was asked to stop: a whole team stops at the same step."""
    cfg, team = session.train, session.plan.team
    since, tokens = time.perf_counter(), 0
    for done in range(first + 1, cfg.steps + 1):
        report = session.step(done - 1)
        tokens += report.tokens
        speed = tokens / (time.perf_counter() - since)
        if note := session.plan.micro.pop_note():
            run.log({"step": done, "note": note, "micro_batch_cells": session.plan.micro.cells})
        measured = done % cfg.log_every == 0 or done % cfg.evaluate_every == 0 or done == cfg.steps
        if measured:
            run.log(_record(done, report, speed) | _evaluation(session, held_out, done))
            since, tokens = time.perf_counter(), 0
        stop = team.any(done < cfg.steps and stopping())
        saved = done % cfg.checkpoint_every == 0 or done == cfg.steps or stop
        if saved:
            _checkpoint(run, done, session.tensors(), session.plan.state)
        rank.write(step=done, tokens_per_second=round(speed), memory=memory_of(session.lm.device))
        if measured or saved:
            team.meet()  # rank 0 measures and writes alone
        run.write_status("stopped" if stop else "running", done, cfg.all_steps, "training")
        progress(done, cfg.all_steps, "training")
        if stop:
            return False
    return True


def _tune(
    run: RunFolder,
    session: Session,
    coders: TranscoderSet,
    before: dict[str, torch.Tensor],
    held_out: Texts,
    stopping: Callable[[], bool],
    progress: Progress,
) -> TranscoderSet | None:
    """The last steps, all layers together; what the layers were `before` them stays in each checkpoint. None
    when it was asked to stop."""
    cfg, saved = session.train, run.latest_checkpoint()
    first, tune = 0, FineTune(session.lm, coders, cfg.finetune_rate)
    if saved is not None and saved.step > cfg.steps:
        first = saved.step - cfg.steps
        tune = FineTune.restored(session.lm, coders, cfg.finetune_rate, saved.tensors)
    for step in range(first, cfg.finetune_steps):
        # Another seed: the cells go on in an order of their own.
        cells = cells_of_step(step, session.texts.n_cells, cfg.cells_per_batch, cfg.seed + 2)
        share = rate_of_step(step, cfg.finetune_steps)
        report = tune.step(session.texts, cells, share, cfg.answer_weight)
        done, last = cfg.steps + step + 1, step + 1 == cfg.finetune_steps
        if (step + 1) % cfg.log_every == 0 or last:
            record = {"step": done, **{f"tune_{name}": value for name, value in report._asdict().items()}}
            run.log(record | (_measured(session, tune.finished(), held_out) if last else {}))
        stop = not last and stopping()
        if (step + 1) % cfg.checkpoint_every == 0 or last or stop:
            _checkpoint(run, done, before | tune.tensors(), session.plan.state)
        run.write_status("stopped" if stop else "running", done, cfg.all_steps, "tuning all layers together")
        progress(done, cfg.all_steps, "training")
        if stop:
            return None
    return tune.finished()


def _checkpoint(run: RunFolder, step: int, tensors: dict[str, torch.Tensor], state: dict[str, Any]) -> None:
    """Keep the state, unless it is spoilt: it would take the place of a good one."""
    spoilt = [name for name, t in tensors.items() if t.is_floating_point() and not bool((t < INFINITE).all())]
    if spoilt:
        raise ScxError(
            f"After step {step} {spoilt[0]} is not finite; this state was not kept.",
            "The last checkpoint is. Start a run with a lower learning rate, or check the model.",
        )
    run.save_checkpoint(step, tensors, state)


def _record(step: int, report: StepReport, speed: float) -> dict[str, Any]:
    return {
        "step": step,
        "loss": report.loss,
        "fvu": report.fvu,
        "l0": report.l0,
        "dead": report.dead,
        "tokens_per_second": round(speed),
    }


def _evaluation(session: Session, held_out: Texts, step: int) -> dict[str, float]:
    """Losses with every MLP replaced, at intervals; nothing in between."""
    cfg = session.train
    if step % cfg.evaluate_every and step != cfg.steps:
        return {}
    return _measured(session, session.coders(), held_out)


def _measured(session: Session, coders: TranscoderSet | None, held_out: Texts) -> dict[str, float]:
    if coders is None:  # rank 0 has them
        return {}
    cells = range(min(session.train.evaluate_cells, held_out.n_cells))
    found = spliced(session.lm, coders, held_out, cells)
    return {**found._asdict(), "ce_recovered": found.ce_recovered}


def _finish(
    run: RunFolder,
    job: TrainingJob,
    lm: Language,
    coders: TranscoderSet,
    held_out: Texts,
    folder: Path,
    progress: Progress,
) -> TranscoderSet:
    """Measure on held-out cells, and write the set."""
    steps, message = job.train.all_steps, "measuring on held-out cells"
    run.write_status("running", steps, steps, message)
    progress(steps, steps, message)
    meta = {
        "name": run.name,
        "model_name": lm.name,
        "transcoder": to_dict(job.transcoder),
        "train": to_dict(job.train),
        "sentences": to_dict(job.sentences),
        "metrics": held_out_metrics(lm, coders, held_out),
        "provenance": run.provenance,
    }
    saved = save_set(folder, coders, meta)
    run.write_status("done", steps, steps, "finished")
    return saved
