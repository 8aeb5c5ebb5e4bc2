"""The Pareto table: every kind of set at several sparsities, with and without tuning all layers at the end.

Each entry is a training run in a folder of its own, which is skipped when it is finished and taken up again
when it is not: the table can be made in pieces. A tuned run begins with the checkpoint of the untuned one, as
a run that trains both in one go would.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from scx_core.bench.machine import machine, peak_gib
from scx_core.cells import CellTable
from scx_core.errors import ScxError
from scx_core.figures import export_comparison
from scx_core.language import Language
from scx_core.runs import RunFolder, from_dict, option, read_json, to_dict, write_json
from scx_core.runs.options import check
from scx_core.runs.progress import Progress, silent
from scx_core.training import train
from scx_core.training.config import TrainConfig, TrainingJob, TranscoderConfig
from scx_core.training.train import new_run
from scx_core.validation import compare_runs, comparison_provenance, held_out_rows, validate
from scx_core.validation.result import FILE

KINDS = ("relu", "topk", "batchtopk", "jumprelu", "sae", "cross-layer")
FIGURES = ("ce_recovered", "kl", "fvu", "l0", "dead", "label_agreement", "ce_orig", "ce_transcoder")


@dataclass(frozen=True)
class ParetoConfig:
    """What is in the table."""

    steps: int = option(1200, "Training steps of a run", minimum=1)
    finetune_steps: int = option(300, "Steps with all layers together at the end (0: none)", minimum=0)
    kinds: str = option("relu,topk,batchtopk,jumprelu", f"Kinds, among {', '.join(KINDS)}")
    l0: str = option("4,8,16,32", "Active features a token")
    skip: bool = option(True, "With an affine path beside the features (never for SAEs)")
    seed: int = option(0, "Seed of data order and first weights", minimum=0)

    def __post_init__(self) -> None:
        check(self)

    def cells(self, only: Sequence[str] = ()) -> list[ParetoCell]:
        """The cells of the table; those named in `only` ("kind:l0") where there are any. Raises ScxError for
        a kind that is not known or an L0 that is no whole number."""
        wanted = list(only) or [f"{kind}:{l0}" for kind in _words(self.kinds) for l0 in _words(self.l0)]
        return [_cell(text) for text in wanted]


class ParetoCell(NamedTuple):
    """One kind at one wanted L0."""

    kind: str
    l0: int

    @property
    def name(self) -> str:
        """That of its run."""
        return f"{self.kind}-{self.l0}"


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _cell(text: str) -> ParetoCell:
    kind, _, l0 = text.partition(":")
    if kind not in KINDS or not l0.isdecimal() or int(l0) < 1:
        raise ScxError(
            f"{text[:40]!r} is no cell of the table.",
            f"Write KIND:L0, such as topk:8; kinds: {', '.join(KINDS)}.",
        )
    return ParetoCell(kind, int(l0))


def coder_of(cell: ParetoCell, skip: bool) -> TranscoderConfig:
    """The settings of a cell. SAEs and cross-layer sets have BatchTopK; ReLU and JumpReLU are held at L0 by
    the controller."""
    gate = "batchtopk" if cell.kind in ("sae", "cross-layer") else cell.kind
    settings = {
        "kind": gate,
        "k": cell.l0,
        "target_l0": float(cell.l0) if gate in ("relu", "jumprelu") else 0.0,
        "reads": "output" if cell.kind == "sae" else "input",
        "writes": "later" if cell.kind == "cross-layer" else "own",
        "skip": skip and cell.kind != "sae",
    }
    return from_dict(TranscoderConfig, settings)


def bench_pareto(
    job: TrainingJob,
    lm: Language,
    table: CellTable,
    root: Path,
    cfg: ParetoConfig,
    only: Sequence[str] = (),
    figure: Path | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Train and measure what is missing of `only` (default: of all), then tabulate what is there.

    `job` says which model and cells; transcoder and training are set for each cell. Raises ScxError when a
    run under `root` was made with other settings, and KeyboardInterrupt when it was stopped.
    """
    cells = cfg.cells(only)
    for done, cell in enumerate(cells):
        progress(done, len(cells), cell.name)
        base = _trained(job, lm, table, root, cfg, cell)
        if cfg.finetune_steps:
            _trained(job, lm, table, root, cfg, cell, base)
    progress(len(cells), len(cells), "table")
    known = list(dict.fromkeys([*cfg.cells(), *cells]))
    rows = [row for cell in known for row in _rows(root, cell, cfg)]
    runs = [RunFolder.open(root / row["run"]) for row in rows]
    files, why = _figure(runs, figure) if figure else ([], "")
    return {
        "machine": machine(lm.device),
        "model": lm.name,
        "settings": to_dict(cfg),
        "pareto": rows,
        "missing": [cell.name for cell in known if not (root / cell.name / "transcoders" / FILE).exists()],
        "runs": str(root),
        "files": [str(path) for path in files],
        "no_figure": why,
        "peak_memory_gib": peak_gib(),
    }


def _figure(runs: list[RunFolder], folder: Path) -> tuple[list[Path], str]:
    """The figure's files, or why there is none: hours of training are not lost because of a figure."""
    try:
        return export_comparison(compare_runs(runs), folder, comparison_provenance(runs)), ""
    except ScxError as error:
        return [], str(error)


def _trained(
    job: TrainingJob,
    lm: Language,
    table: CellTable,
    root: Path,
    cfg: ParetoConfig,
    cell: ParetoCell,
    base: RunFolder | None = None,
) -> RunFolder:
    """The finished and measured run of a cell; with `base`, its untuned run, the tuned one."""
    name = cell.name + ("-tuned" if base else "")
    training = TrainConfig(steps=cfg.steps, finetune_steps=cfg.finetune_steps if base else 0, seed=cfg.seed)
    mine = replace(job, transcoder=coder_of(cell, cfg.skip), train=training)
    if (root / name / "run.json").exists():
        run = RunFolder.open(root / name)
        if run.config != to_dict(mine):
            raise ScxError(f"The run {run.path} has other settings.", "Choose another folder with --runs.")
    else:
        run = new_run(root, mine, lm, table, name)
        if base is not None:
            # take over another run's training, so that only the tuning is left
            last = base.latest_checkpoint()
            if last is None:
                raise ScxError(
                    f"The run {base.path} has no checkpoint left.", "Delete its folder to train it again."
                )
            for record in base.metrics():
                run.log(record)
            run.save_checkpoint(last.step, last.tensors, last.state, score=last.score)
    if (beside := run.path / "transcoders" / FILE).exists():
        return run
    coders = train(run, lm, table)
    if coders is None:
        raise KeyboardInterrupt(f"stopped in {run.name}; the same command goes on")
    found = validate(lm, coders, table, held_out_rows(lm, coders, table), per_layer=False)
    write_json(beside, found.to_json())
    return run


def _rows(root: Path, cell: ParetoCell, cfg: ParetoConfig) -> list[dict[str, Any]]:
    """The untuned and the tuned run of a cell, as far as they are measured. `closed` is the share of the
    gap in CE that the untuned set leaves and the tuning closes."""
    rows: list[dict[str, Any]] = []
    for tuned in (False, True) if cfg.finetune_steps else (False,):
        run = cell.name + ("-tuned" if tuned else "")
        path = root / run / "transcoders" / FILE
        if path.exists():
            found = read_json(path)
            rows.append(
                {"run": run, "kind": cell.kind, "wanted_l0": cell.l0, "tuned": tuned, "closed": None}
                | {key: found[key] for key in FIGURES}
            )
    if len(rows) == 2:
        before, after = rows
        gap = before["ce_transcoder"] - before["ce_orig"]
        after["closed"] = (before["ce_transcoder"] - after["ce_transcoder"]) / gap if gap else None
    return rows
