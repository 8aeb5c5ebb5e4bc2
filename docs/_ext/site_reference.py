"""Reference pages made from the code: functions from docstrings, commands from parsers, files from types.
They are written to docs/reference/generated before Sphinx reads anything.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import json
import re
from pathlib import Path
from types import ModuleType

from sphinx.application import Sphinx

FACE = ("pp", "tl", "pl")
INTERNAL = (
    "cells", "sentences", "language", "transcoders", "metrics", "training", "validation", "attribution",
    "circuits", "atlas", "evidence", "claims", "figures", "build", "runs",
)  # fmt: skip


def write(path: Path, text: str) -> None:
    """Only where it differs, so that Sphinx need not read it again."""
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def face_functions(module: ModuleType) -> list[str]:
    """The functions that a notebook uses, as the module lists them."""
    return [name for name in module.__all__ if inspect.isfunction(getattr(module, name))]


def face(out: Path) -> None:
    """A page a function of pp, tl and pl, and one page a module that lists them."""
    for short in FACE:
        module = importlib.import_module(f"scx_core.{short}")
        names = sorted(face_functions(module))
        rows = []
        for name in names:
            full = f"scx_core.{short}.{name}"
            first = (inspect.getdoc(getattr(module, name)) or "").split("\n", 1)[0]
            rows.append(f"| [`{short}.{name}`]({short}.{name}.md) | {first} |")
            page = f"# scx.{short}.{name}\n\n```{{eval-rst}}\n.. autofunction:: {full}\n```\n"
            write(out / f"{short}.{name}.md", page)
        toc = "\n".join(f"{short}.{name}" for name in names)
        summary = (inspect.getdoc(module) or "").split("\n", 1)[0]
        table = "\n".join(["| function | what it does |", "|---|---|", *rows])
        page = f"# scx.{short}\n\n{summary}\n\n{table}\n\n```{{toctree}}\n:hidden:\n\n{toc}\n```\n"
        write(out / f"{short}.md", page)


def rooms(out: Path) -> None:
    """One page a room: what comes in and goes out, and what it hands to others."""
    for room in INTERNAL:
        module = importlib.import_module(f"scx_core.{room}")
        parts = [f"# scx_core.{room}", "", fenced(inspect.getdoc(module) or ""), ""]
        for name in sorted(vars(module)):
            thing = getattr(module, name)
            if name.startswith("_") or not (inspect.isfunction(thing) or inspect.isclass(thing)):
                continue
            if not thing.__module__.startswith("scx_core."):
                continue
            parts += [f"## {name}", "", f"*{thing.__module__}*", "", fenced(signature(thing), "python"), ""]
            parts += [fenced(inspect.getdoc(thing) or ""), ""]
        write(out / f"room-{room}.md", "\n".join(parts))


def fenced(text: str, kind: str = "text") -> str:
    """As it stands in the code."""
    return f"```{kind}\n{text.replace('```', '``')}\n```"


def signature(thing: object) -> str:
    """`name(parameters) -> what` of a function or class."""
    name = getattr(thing, "__name__", str(thing))
    kind = "class " if inspect.isclass(thing) else ""
    try:
        text = str(inspect.signature(thing))  # type: ignore[arg-type]
    except (TypeError, ValueError):
        text = ""
    text = re.sub(r"<(?:function|object) (\S+)[^>]*>", r"\1", text)
    return f"{kind}{name}{text}"


def commands(out: Path) -> None:
    """One page a command, from its parser."""
    from scx_core.cli.main import make_parser

    parser = make_parser()
    listed = next(one for one in parser._actions if isinstance(one, argparse._SubParsersAction))
    helps = {one.dest: one.help or "" for one in listed._choices_actions}
    rows = []
    for name, command in listed.choices.items():
        complete(command)
        rows.append(f"| [`scx {name}`](scx-{name}.md) | {plain(helps.get(name, ''))} |")
        write(out / f"scx-{name}.md", command_page(command, f"scx {name}"))
    toc = "\n".join(f"scx-{name}" for name in listed.choices)
    head = (
        "`scx` and `python -m scx_core` are the same. Without paths a command works on the embedded cells, "
    )
    head += (
        "model and transcoders. Exit codes: 0 done, 2 a mistake that you can mend (one line), 130 stopped."
    )
    table = "\n".join(["| command | what it does |", "|---|---|", *rows])
    text = f"# Commands\n\n{head}\n\n{table}\n\n```{{toctree}}\n:hidden:\n\n{toc}\n```\n"
    write(out / "commands.md", text)


def complete(command: argparse.ArgumentParser) -> None:
    """Options are added when a command is parsed (torch is slow): the answer to --help has all of them."""
    module = getattr(command, "_command", None)
    if module is None:
        return
    from scx_core.cli import common

    module.options(command)
    if command._subparsers is None:
        common.add_output(command)
    command._command = None  # type: ignore[attr-defined]


def command_page(command: argparse.ArgumentParser, title: str, level: int = 1) -> str:
    """Usage, words and a table of options for each group; questions of a command below it."""
    usage = re.sub(r"\s+", " ", command.format_usage()).removeprefix("usage: ").strip()
    parts = [f"{'#' * level} {title}", "", plain(command.description or ""), ""]
    if level > 1 or len(usage) < 300:
        parts += [fenced(usage), ""]
    for group in command._action_groups:
        options = [one for one in group._group_actions if not isinstance(one, argparse._SubParsersAction)]
        shown = [
            one for one in options if one.help != argparse.SUPPRESS and "--help" not in one.option_strings
        ]
        if shown:
            heading = {"options": "Options", "positional arguments": "Arguments"}.get(group.title or "", "")
            parts += [f"**{heading or (group.title or '').capitalize()}**", ""]
            parts += [line for one in shown for line in option_lines(command, one)]
    for action in command._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, below in action.choices.items():
                complete(below)
                parts += [command_page(below, f"{title} {name}", level + 1), ""]
    return "\n".join(parts)


def option_lines(command: argparse.ArgumentParser, option: argparse.Action) -> list[str]:
    """A definition: the option as it is typed, then what it does."""
    value = command._get_formatter()._format_args(option, option.metavar or (option.dest or "").upper())
    names = ", ".join(option.option_strings) or value
    typed = f"{names} {value}".strip() if option.option_strings and option.nargs != 0 else names
    words = (option.help or "").replace("%(default)s", str(option.default)).replace("%%", "%")
    if option.choices and not set(map(str, option.choices)) <= set(re.findall(r"[\w-]+", typed + words)):
        words += f" ({', '.join(map(str, option.choices))})"
    return [f"`{typed}`", f": {plain(words) or '–'}", ""]


def plain(text: str) -> str:
    """Words of a parser in Markdown: code in backticks stays, everything else is text."""
    pieces = re.split(r"(`[^`]*`)", re.sub(r"\s+", " ", text).strip())
    return "".join(
        one if one.startswith("`") else re.sub(r"([*_<>\[\]|\\$#{}])", r"\\\1", one) for one in pieces
    )


def schemas(out: Path, static: Path) -> None:
    """The circuit file as JSON Schema, from the types that readers are checked against."""
    from scx_core.circuits.circuit import circuit_schema

    text = json.dumps(circuit_schema(), indent=1, ensure_ascii=False)
    write(static / "circuit.schema.json", text + "\n")
    page = (
        "# JSON Schema of the circuit file\n\nMade from the types that `read_circuit` reads. "
        "What keys mean: [The circuit file](/circuit-json.md).\n\n"
        "{download}`circuit.schema.json`\n\n"
        f"```json\n{text}\n```\n"
    )
    write(out / "circuit-schema.md", page)


def glossary(out: Path) -> None:
    """The dashboard's glossary."""
    from pages.parts.common.words import glossary as terms_of

    lines = [line for term, words in terms_of() for line in (term, f"  {plain(words)}", "")]
    words = "The same as under “Words” in the side bar of the dashboard."
    write(out / "glossary.md", "\n".join(["# Glossary", "", words, "", "```{glossary}", *lines, "```", ""]))


def make(app: Sphinx) -> None:
    """Before Sphinx reads."""
    out = Path(app.srcdir) / "reference" / "generated"
    face(out)
    rooms(out)
    commands(out)
    schemas(out, out)
    glossary(out)


def setup(app: Sphinx) -> dict[str, bool]:
    """What Sphinx calls."""
    app.connect("builder-inited", make, priority=100)
    return {"parallel_read_safe": True}
