"""`scx train`: train transcoders for all MLP layers of a model; stop, resume, or run in the background."""

from __future__ import annotations

import argparse
import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scx_core.cli import common
from scx_core.errors import ScxError
from scx_core.runs import RunFolder, add_arguments, from_dict, from_namespace, start
from scx_core.runs.jobs import RUN, torchrun
from scx_core.runs.tensorboard import check_installed, mirrored

if TYPE_CHECKING:
    from scx_core.training.config import TrainingJob
    from scx_core.training.processes.distributed import Team

HELP = "train transcoders for every MLP layer of a model"
DESCRIPTION = "Train transcoders for every MLP layer of a model."

PRESET = "recommended"
FIGURES = ("ce_orig", "ce_transcoder", "ce_zero", "ce_recovered", "kl")


def options(parser: argparse.ArgumentParser) -> None:
    from scx_core.training.config import PRESETS, TrainConfig, TranscoderConfig

    presets = "; ".join(f"{name}: {preset.help}" for name, preset in PRESETS.items())
    parser.add_argument(
        "--run",
        "--resume",  # torchrun takes --run for an abbreviation of its own
        metavar="FOLDER",
        help="begin or go on with the run in this folder, as it says itself",
    )
    parser.add_argument(
        "--preset", choices=tuple(PRESETS), default=PRESET, help=f"{presets} (default: {PRESET})"
    )
    parser.add_argument("--detach", action="store_true", help="train in the background and return at once")
    parser.add_argument(
        "--tensorboard",
        action="store_true",
        help="mirror the metrics into the run's folder tensorboard (needs the package tensorboard)",
    )
    common.add_cells(parser)
    common.add_model(parser)
    base, whose = PRESETS[PRESET], f"(defaults: those of the preset {PRESET})"
    group = parser.add_argument_group(f"transcoders {whose}")
    add_arguments(group, TranscoderConfig, base=base.transcoder)
    group = parser.add_argument_group(f"training {whose}")
    add_arguments(group, TrainConfig, skip=("seed",), base=base.train)
    common.add_run(parser)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Train to the end. Raises KeyboardInterrupt, saying how to go on, when it was stopped before."""
    if args.tensorboard:
        check_installed()
    from scx_core.training.config import TrainingJob
    from scx_core.training.processes.distributed import device_of, launched, team
    from scx_core.training.processes.hosts import share

    if launched():
        here = args.run and (Path(args.run) / "run.json").exists()  # the others may have to get it first
        device = RunFolder.open(args.run).config["device"] if here else args.device
        with team(str(device)) as members:
            path = Path(members.text(_folder_of(args) if members.leads else ""))
            share(members, path)
            folder = RunFolder.open(path)
            job = from_dict(TrainingJob, folder.config)
            job = replace(job, device=device_of(job.device, members))
            return _train(args, folder, job, members)
    folder = RunFolder.open(_folder_of(args))
    if args.detach:
        start(folder, _argv(args))
        return common.run_summary(folder)
    job = from_dict(TrainingJob, folder.config)
    if _processes(args, job) > 1:
        torchrun(folder, _argv(args, shown=True), _processes(args, job))
    return _train(args, folder, job)


def _folder_of(args: argparse.Namespace) -> str:
    """The folder of the run that is named, or of a new one."""
    return str(RunFolder.open(args.run).path if args.run else _new_run(args).path)


def _processes(args: argparse.Namespace, job: TrainingJob) -> int:
    """The number that is asked for now, else that of the run."""
    from scx_core.training.config import TrainConfig

    return from_namespace(TrainConfig, args, job.train).processes


def _train(
    args: argparse.Namespace, folder: RunFolder, job: TrainingJob, members: Team | None = None
) -> dict[str, Any]:
    """Train here; in a team, rank 0 alone shows progress and the result."""
    from scx_core.training import train
    from scx_core.training.estimate import said_before
    from scx_core.training.processes.distributed import ALONE

    members = members or ALONE
    if not members.leads:
        args.quiet, args.json, args.tensorboard = True, None, False
    lm, table = _open(args, job)
    shown = common.progress_of(args)
    if (
        not args.quiet
        and not folder.status().done
        and (words := said_before(lm, job.transcoder, job.train, table))
    ):
        print(words, file=sys.stderr, flush=True)
    with mirrored(folder, shown) if args.tensorboard else nullcontext(shown) as progress:
        done = train(folder, lm, table, progress, members)
    if members.size > 1 and done is None:
        # Stopped in order, or not the one that finishes: no failure to the launcher.
        return common.run_summary(folder)
    if done is None:
        raise KeyboardInterrupt(f"stopped; `scx train --run {folder.path}` goes on")
    return common.run_summary(folder) | {
        "transcoders": str(folder.path / "transcoders"),
        "fingerprint": done.fingerprint,
        "metrics": done.meta.get("metrics", {}),
        "provenance": folder.provenance,
    }


def _new_run(args: argparse.Namespace) -> RunFolder:
    from scx_core.cells import CellChoices
    from scx_core.sentences import SentenceConfig
    from scx_core.training.config import PRESETS, TrainConfig, TrainingJob, TranscoderConfig
    from scx_core.training.train import new_run

    preset = PRESETS[args.preset]
    transcoder = from_namespace(TranscoderConfig, args, preset.transcoder)
    training = from_namespace(TrainConfig, args, preset.train)
    cells = from_namespace(CellChoices, args)
    table = common.open_table(args)
    lm = common.open_language(args)
    job = TrainingJob(
        sentences=from_namespace(SentenceConfig, args, lm.sentence_config),
        model=common.absolute(args.model),
        data=common.absolute(args.data),
        device=args.device,
        cells=cells,
        transcoder=transcoder,
        train=training,
    )
    return new_run(args.runs, job, lm, table, args.name, argv=_argv(args))


def _argv(args: argparse.Namespace, shown: bool = False) -> list[str]:
    """What starts the run again: in the background, or where what it says is `shown`."""
    words = ["train", "--run", RUN, *(["--tensorboard"] if args.tensorboard else [])]
    if "processes" in args and not shown:
        words += ["--processes", str(args.processes)]
    if shown and args.json:
        words += ["--json", args.json]
    return words if shown and not args.quiet else [*words, "--quiet"]


def _open(args: argparse.Namespace, job: Any) -> tuple[Any, Any]:
    """Model and cells as the run says, not as the arguments do."""
    from scx_core.cells import open_cells

    for what, source in (("cells", job.data), ("model", job.model)):
        if Path(source).is_absolute() and not Path(source).exists():
            raise ScxError(
                f"The {what} of this run are gone: {source}.", "Bring them back, or start a new run."
            )
    table = open_cells(job.data, job.cells)
    return common.open_language(argparse.Namespace(model=job.model, device=job.device)), table


def summary(result: dict[str, Any]) -> str:
    """Where the set is and how well it stands in for the MLPs."""
    if "metrics" not in result:
        where = "runs in the background" if result["state"] == "running" else f"is {result['state']}"
        return f"{result['name']} {where}; its folder is {result['run']}"
    metrics = result["metrics"]
    rows = [(name, metrics.get(name)) for name in FIGURES]
    each = metrics.get("per_layer", [])
    lines = [common.columns(rows, ("on held-out cells", "value"))]
    if each:
        header = tuple(each[0])
        lines.append(common.columns([tuple(layer[key] for key in header) for layer in each], header))
    return "\n\n".join([*lines, f"The transcoders are in {result['transcoders']}"])
