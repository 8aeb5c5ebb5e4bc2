"""From arguments to an exit code: 0 done, 2 a mistake that the user can mend (one line), 130 stopped."""

from __future__ import annotations

import argparse
import io
import os
import sys
import warnings
from collections.abc import Sequence
from types import ModuleType
from typing import Any, NoReturn

from scx_core import __version__
from scx_core.cli import app, bench, common, runs
from scx_core.cli.atlas import atlas, feature, features, gene, match, rate, sets
from scx_core.cli.cells import annotate, prepare
from scx_core.cli.circuits import circuit, connections, difference, export, heads, paths, trace
from scx_core.cli.evidence import (
    attributions,
    claims,
    evidence,
    knockouts,
    rankings,
    report,
    reproduce,
    share,
    smallest,
)
from scx_core.cli.training import compare, demo, train, transcoders, validate
from scx_core.environment import memory_words, prepare_process
from scx_core.errors import ScxError
from scx_core.runs import write_json
from scx_core.runs.files import full_or_refused, to_json_text

COMMANDS: tuple[ModuleType, ...] = (
    prepare, train, validate, compare, transcoders, trace, circuit, difference, heads, knockouts,
    attributions, paths, connections, smallest, rankings, evidence, report, share, reproduce, atlas, claims,
    features, feature, gene, rate, sets, match, annotate, export, runs, demo, bench, app,
)  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit code; a bug is not caught."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a console may lack × or a cell type's letters
            stream.reconfigure(errors="replace")
    try:
        prepare_process()
        _quieten_libraries()
        args = make_parser().parse_args(argv)
        if args.json is not None and args.json != "-":
            common.check_out(args, args.json)
        result = args.command.run(args)
        if args.json is not None and args.json != "-":
            write_json(args.json, result)
        if args.json == "-":
            print(to_json_text(result, indent=2))
        elif not args.quiet:
            print(printable(args.command.summary(result)))
    except ScxError as error:
        print(printable(f"scx: error: {error}"), file=sys.stderr)
        return 2
    except OSError as error:
        if isinstance(error, BrokenPipeError):  # the reader of our output (such as `head`) has had enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 141
        if (problem := full_or_refused(error)) is None:
            raise
        print(printable(f"scx: error: {problem}"), file=sys.stderr)
        return 2
    except RuntimeError as error:
        if (said := _memory_in_words(error)) is None:
            raise
        print(printable(f"scx: error: {said}"), file=sys.stderr)
        return 2
    except KeyboardInterrupt as stopped:
        print(f"scx: {str(stopped) or 'stopped'}", file=sys.stderr)
        return 130
    return 0


def _memory_in_words(error: RuntimeError) -> str | None:
    """One line where the memory of the device did not suffice; None for another error, which is a bug."""
    from scx_core.runs.micro_batch import out_of_memory

    if not out_of_memory(error):
        return None
    return (
        f"The device's memory does not suffice: {str(error).splitlines()[0][:200]} What was saved before "
        "is kept. Free the device, ask for fewer cells, nodes or genes, or take --device cpu."
    )


def printable(text: str) -> str:
    """Without control characters: names come from files, and a terminal obeys what it is sent."""
    return "".join(sign if sign.isprintable() or sign == "\n" else "\ufffd" for sign in text)


class CommandParser(argparse.ArgumentParser):
    """Errors are one line. The options of a `command` come from configuration classes that live beside torch,
    and the list of commands must not wait for torch: they are added when this very command is parsed."""

    def __init__(self, *args: Any, command: ModuleType | None = None, **kwargs: Any) -> None:
        kwargs.setdefault("allow_abbrev", False)
        super().__init__(*args, **kwargs)
        self._command = command

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parse with the command's options, and those of the output, added."""
        if self._command is not None:
            self._command.options(self)
            if not getattr(self._command, "OUTPUT", True):
                self.set_defaults(json=None, quiet=True)
            elif self._subparsers is None:  # one of several questions has an output of its own
                common.add_output(self)
            self._command = None
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        """Raise ScxError instead of printing the usage and leaving."""
        raise ScxError(f"{message}.", f"`{self.prog} --help` lists what there is.")


def make_parser() -> argparse.ArgumentParser:
    """The parser with all commands."""
    parser = CommandParser(
        prog="scx",
        description="Which genes, and which internal steps, made a single-cell language model call a cell "
        "what it did. Without paths, every command works on the embedded cells, model and transcoders.",
        epilog="Begin with `scx app`, the dashboard, or `scx demo`. `scx COMMAND --help` lists the options "
        "of a command.",
    )
    parser.add_argument("--version", action="version", version=f"scX {__version__} ({memory_words()})")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in COMMANDS:
        described = getattr(command, "DESCRIPTION", f"{command.HELP.capitalize()}.")
        name = command.__name__.rpartition(".")[2]
        one = subparsers.add_parser(name, help=command.HELP, description=described, command=command)
        one.set_defaults(command=command)
    return parser


def _quieten_libraries() -> None:
    """Their bars and warnings would bury the one line that counts; `python -W` brings warnings back.

    Before the parser: the libraries read these settings when they are imported.
    """
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
