"""Train a transcoder set in a run folder: started, stopped, killed and resumed with the same result.

run.json       the TrainingJob     split.json      cells that train, choose and test
metrics.jsonl  a record every log_every steps      tokens/         the cells as the model reads them
transcoders/   the finished set
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from scx_core.cells import CellTable, Split, split_cells, with_choosing
from scx_core.errors import ScxError
from scx_core.language import Language, fast_attention
from scx_core.language.numerics.denormals import flushed_subnormals
from scx_core.runs import RunFolder, from_dict, provenance, read_json, stop_requested, to_dict, write_json
from scx_core.runs.micro_batch import TooLarge
from scx_core.runs.progress import Progress, silent
from scx_core.runs.ranks import RankFile, ReadOnlyRun
from scx_core.training.config import TrainConfig, TrainingJob
from scx_core.training.evaluation import FINAL_WORK, affordable, held_out_metrics, measuring
from scx_core.training.keeping import CheckpointWriter
from scx_core.training.plan import check_team, compiled, make_plan, memory_in_words
from scx_core.training.processes.distributed import ALONE, Team
from scx_core.training.processes.hosts import share
from scx_core.training.tokens import Stopped, TokenTexts, cached_texts, encode_texts
from scx_core.training.trainer import (
    RunContext,
    RunCost,
    at_its_best,
    calibrated,
    step_to_end_with,
    train_layers,
    tune_together,
)
from scx_core.training.trainer_state import TrainerState
from scx_core.transcoders.layouts import load_set, save_set
from scx_core.transcoders.module import TranscoderSet

OFF_TARGET = 0.1  # share of a wanted number of active features that a layer may be off it, unsaid
UNTUNED = "finished without the steps of all layers together: not one cell at a time fitted with them"
FINAL_CELLS = 512  # cells that choose at most, and test cells of the figures beside the finished set


def new_run(
    root: Path | str,
    job: TrainingJob,
    lm: Language,
    table: CellTable,
    name: str | None = None,
    argv: Sequence[str] = (),
) -> RunFolder:
    """A run folder with its split, ready for `train`.

    Raises ScxError when the cells cannot be split, or processes cannot share this form of set.
    """
    check_team(job.transcoder, job.train.processes)
    record = provenance(config=to_dict(job), data=table, model=lm, seed=job.train.seed)
    split = training_split(lm, table, job.train)
    run = RunFolder.create(root, "train", job, name, provenance=record, argv=argv)
    write_json(run.path / "split.json", split.to_json())
    return run


def training_split(lm: Language, table: CellTable, cfg: TrainConfig) -> Split:
    """The cells to train on, to choose on and to test on. "model" takes over the language model's own split
    when it was made on these very cells, as a test cell must be new to both; otherwise it is stratified.
    Where the model's split knows no choosing cells, they are taken out of those to train on: they are new to
    the transcoders then, not to the model."""
    own = lm.settings.get("split")
    cells = lm.settings.get("provenance", {}).get("data", {}).get("fingerprint")
    if cfg.split_by == "model" and own and cells == table.fingerprint:
        return with_choosing(table, Split.from_json(own), cfg.choose, cfg.seed)
    by = "stratified" if cfg.split_by == "model" else cfg.split_by
    return split_cells(table, cfg.held_out, by, cfg.seed, cfg.choose)


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
    lm = replace(lm, wanted=job.sentences)  # the text of this run, also where it is measured
    run = run if team.leads else ReadOnlyRun.of(run)
    rank = RankFile(run, team.rank, team.size, str(lm.device))
    with (
        run.lock(),
        stop_requested() as stopping,  # around the record: a signal at the very end must not leave it open
        rank.recorded(),
        fast_attention(lm),
        flushed_subnormals(),
        ExitStack() as inside,
    ):
        try:
            inside.enter_context(compiled(lm, job.train.compile))
            _check_same(run, lm, table)
            with memory_in_words():
                done = _train(run, job, lm, table, team, rank, progress, stopping)
            if done is None and team.size > 1:
                # Another process was asked first: the signal may reach this one when all have stopped.
                stopping.heed()
            return done
        except Stopped as stopped:
            run.write_status("stopped", run.status().done, job.train.all_steps, str(stopped))
            return None
        except ScxError as error:
            status = run.status()
            run.write_status("failed", status.done, job.train.all_steps, error.problem, error=str(error))
            raise


def _train(
    run: RunFolder,
    job: TrainingJob,
    lm: Language,
    table: CellTable,
    team: Team,
    rank: RankFile,
    progress: Progress,
    stopping: Callable[[], bool],
) -> TranscoderSet | None:
    """Cells, layer by layer, all layers together, the figures beside the set: from wherever the run is."""
    run.write_status("running", run.status().done, job.train.all_steps, "reading cells")
    split = Split.from_json(read_json(run.path / "split.json"))
    tokens, shown = run.path / "tokens", _in_status(run, job.train, progress)
    skip = job.train.skip_prompt
    stop = stopping if team.size == 1 else None  # a team stops together, at a step
    if team.leads:  # it writes the tokens that the others read
        texts = cached_texts(tokens, lm, table, split.train, job.sentences, shown, skip, stop)
    team.meet()
    share(team, tokens)
    if not team.leads:
        texts = cached_texts(tokens, lm, table, split.train, job.sentences, skip_prompt=skip)
    held_out = encode_texts(lm, table, measured_cells(split.held_out, split.seed), job.sentences)
    held_out = held_out.first(measured_at_end(lm, held_out, job))
    choosing, fits = held_out, None  # of a split of two parts
    if len(split.choose):
        some = measured_cells(split.choose, split.seed)
        choosing = fits = encode_texts(lm, table, some, job.sentences, skip_prompt=skip)
    state, first, spent = _open_state(run, lm, texts, job, team, shown)
    run.write_status("running", run.status().done, job.train.all_steps, "training")
    with state.plan.products(lm.device), CheckpointWriter(run, lm.device) as keep:
        context = RunContext(run, rank, choosing, fits, held_out, spent, progress, stopping, keep)
        return _from_step(job, lm, split, state, first, context)


def _from_step(
    job: TrainingJob, lm: Language, split: Split, state: TrainerState, first: int, context: RunContext
) -> TranscoderSet | None:
    """The loops and the figures beside the set."""
    run = context.run
    if not train_layers(state, first, context):
        return None
    if job.train.best_at_end:
        share(state.plan.team, run.path / "checkpoints")  # each looks at the scores there
    state = at_its_best(state, run)
    coders = calibrated(state, context.fits)
    before = state.tensors() if job.train.finetune_steps else {}
    if coders is None:
        return None  # what is left is the work of one process
    note = ""
    if job.train.finetune_steps:
        try:
            tuned = tune_together(state, coders, before, context)
        except TooLarge:
            if state.plan.partners.size > 1:  # the others wait for this one
                raise
            job = replace(job, train=replace(job.train, finetune_steps=0))
            tuned, note = coders, UNTUNED
            run.log({"step": job.train.steps, "note": note})
        if tuned is None:
            return None
        if job.train.best_at_end:
            share(state.plan.partners, run.path / "checkpoints")
        if step_to_end_with(job.train, run) > job.train.steps:
            coders = tuned
    return _finish(job, lm, coders, split, context, state.plan.partners, note)


def _in_status(run: RunFolder, cfg: TrainConfig, progress: Progress) -> Progress:
    """What is done before the first step, told in the run's status too: it can take minutes."""
    before = run.status().done

    def show(done: int, total: int, message: str) -> None:
        run.write_status("running", before, cfg.all_steps, f"{message}: {done:,} of {total:,}")
        progress(done, total, message)

    return show


def measured_cells(rows: np.ndarray, seed: int) -> np.ndarray:
    """Rows that figures are measured on, in a fixed random order: a file may be sorted by type."""
    return np.random.default_rng(seed).permutation(rows)[:FINAL_CELLS]


def measured_at_end(lm: Language, texts: TokenTexts, job: TrainingJob) -> int:
    """Of the test cells those that the finished set is measured on: all, but on a processor no more than
    `FINAL_WORK` operations allow, and no fewer than are measured while training. `scx validate` measures on
    as many as one wants."""
    tokens = len(texts.ids) / max(1, texts.n_cells)
    a_cell = tokens * measuring(lm, job.transcoder, tokens)
    return min(texts.n_cells, affordable(lm, job.train, FINAL_WORK, a_cell))


def _check_same(run: RunFolder, lm: Language, table: CellTable) -> None:
    """A run resumed on other cells or another model would end as a set of neither."""
    for what, now in (("model", lm.fingerprint), ("data", table.fingerprint)):
        then = run.provenance.get(what, {}).get("fingerprint", now)
        if then != now:
            raise ScxError(
                f"The {what} of the run {run.name} is another now ({now[:12]}) than it was ({then[:12]}).",
                f"Bring back the {what}, or start a new run.",
            )


def _open_state(
    run: RunFolder, lm: Language, texts: TokenTexts, job: TrainingJob, team: Team, progress: Progress
) -> tuple[TrainerState, int, RunCost]:
    """The state, the step to go on with, and the cost so far."""
    checkpoint = run.latest_checkpoint()
    # A checkpoint that says nothing of the precision is older than the choice.
    before = {"precision": "float32", **checkpoint.state} if checkpoint else {}
    plan = make_plan(lm, texts, job.transcoder, job.train, team, before)
    if checkpoint is None:
        run.truncate_metrics(-1)
        return TrainerState.fresh(lm, texts, job.transcoder, job.train, plan, progress), 0, RunCost()
    run.truncate_metrics(checkpoint.step)
    state = TrainerState.restored(lm, texts, job.transcoder, job.train, checkpoint.tensors, plan)
    return state, min(checkpoint.step, job.train.steps), RunCost(checkpoint.state)


def _finish(
    job: TrainingJob,
    lm: Language,
    coders: TranscoderSet,
    split: Split,
    context: RunContext,
    team: Team,
    note: str,
) -> TranscoderSet | None:
    """Measure on the test cells with the team, and write the set (rank 0 does, and has it). Raises Stopped
    when asked to stop before it is written: measuring takes minutes on a large model, and the last checkpoint
    is there to go on from."""
    run, steps, message = context.run, job.train.all_steps, "measuring on held-out cells"
    run.write_status("running", steps, steps, message)
    context.progress(steps, steps, message)

    def go_on() -> None:
        if team.any(context.stopping()):
            raise Stopped(message)

    parts = {name: len(getattr(split, name)) for name in ("train", "choose", "held_out")}
    meta: dict[str, Any] = {
        "name": run.name,
        "model_name": lm.name,
        "transcoder": to_dict(job.transcoder),
        "train": to_dict(job.train),
        "sentences": to_dict(job.sentences),
        "split": {"by": split.by, "choose_by": split.choose_by, "seed": split.seed, **parts},
        "metrics": (metrics := held_out_metrics(lm, coders, context.held_out, go_on, team)),
        "provenance": run.provenance,
    }
    if job.train.best_at_end:
        meta["step"] = step_to_end_with(job.train, run)
    if not team.leads:
        return None
    saved = save_set(run.path / "transcoders", coders, meta)
    run.write_status("done", steps, steps, note or _off_target(job, metrics["per_layer"]) or "finished")
    return saved


def _off_target(job: TrainingJob, per_layer: Sequence[Mapping[str, float]]) -> str:
    """What is to be said of a set whose active features are not as many as were asked for; "" for nothing."""
    wanted = job.transcoder.target_l0
    found = [layer["l0"] for layer in per_layer]
    if not wanted or all(abs(l0 - wanted) <= OFF_TARGET * wanted for l0 in found):
        return ""
    return (
        f"finished with {min(found):.1f} to {max(found):.1f} active features a token where {wanted:g} were "
        "asked for: more steps bring them nearer"
    )
