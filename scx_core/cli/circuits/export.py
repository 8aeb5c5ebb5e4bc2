"""`scx export`: a circuit as figures, pages, graphs and tables."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from scx_core.cli import common
from scx_core.cli.circuits import circuit
from scx_core.errors import ScxError
from scx_core.runs import add_arguments, from_namespace

HELP = "write a circuit as PNG, SVG, PDF, HTML, GraphML, JSON, Neuronpedia graph and CSV"
DESCRIPTION = (
    f"{HELP}. Takes the JSON of `scx trace` or `scx circuit`, or traces the circuit of a cell type first."
)


def options(parser: argparse.ArgumentParser) -> None:
    from scx_core.figures import DEFAULT_FORMATS, FORMATS, View

    parser.add_argument(
        "circuit", nargs="?", metavar="CIRCUIT.json", help="a circuit traced before, or a view that was saved"
    )
    parser.add_argument(
        "--out", default="exports", metavar="PLACE", help="folder, or one file (default: exports)"
    )
    parser.add_argument(
        "--formats",
        default=",".join(DEFAULT_FORMATS),
        metavar="A,B",
        help=f"among {', '.join(FORMATS)} (default: {','.join(DEFAULT_FORMATS)})",
    )
    add_arguments(parser.add_argument_group("figure"), View)
    circuit.add_consensus(parser)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Write the files; the result names them."""
    from scx_core.atlas.feature_naming import name_book
    from scx_core.circuits.feature_names import with_names
    from scx_core.figures import View, markers_of, one_file
    from scx_core.figures.formats.export import export
    from scx_core.figures.saved_view import parse_view

    view = from_namespace(View, args)
    formats = [name.strip() for name in args.formats.split(",") if name.strip()]
    common.check_out(args, args.out, folder=one_file(args.out, formats) is None)
    edits = None
    if args.circuit:
        saved = parse_view(_content(args.circuit), str(args.circuit))
        found, edits = with_names(saved.circuit, name_book(saved.circuit.provenance)), saved.edits
    else:
        found = circuit.consensus(args)
    markers, shared = markers_of(found)
    written = export(found, args.out, formats, view=view, markers=markers, shared=shared, edits=edits)
    return {"files": [str(path) for path in written], "provenance": found.provenance}


def _content(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ScxError(f"{path} could not be read: {error.strerror}.", "Check the path.") from error


def summary(result: dict[str, Any]) -> str:
    """The files, one a line."""
    return "\n".join(result["files"])
