"""`scx evidence QUESTION`: what speaks for a circuit, one question a module of `questions`."""

from __future__ import annotations

import argparse
import importlib
import pkgutil

from scx_core.cli.evidence import questions

HELP = "hold circuits against the real model, their rivals, other studies and measured biology"
DESCRIPTION = (
    "Does a circuit cause, suffice, generalise, and say something about biology? Each question is a command "
    "of its own; `scx report` gathers the answers for one cell type."
)


def options(parser: argparse.ArgumentParser) -> None:
    """A parser for each question; as with commands, its options are added when it is asked."""
    asked = parser.add_subparsers(title="questions", metavar="QUESTION", required=True)
    for found in pkgutil.iter_modules(questions.__path__):
        question = importlib.import_module(f"{questions.__name__}.{found.name}")
        described = getattr(question, "DESCRIPTION", f"{question.HELP.capitalize()}.")
        one = asked.add_parser(found.name, help=question.HELP, description=described, command=question)
        one.set_defaults(command=question)
