"""A circuit as files or as bytes for a download button, each whole or not there at all.

Files of `export`: NAME.png .svg .pdf .html .graphml .json, NAME_neuronpedia.json, NAME_genes.csv with
NAME_genes.provenance.json beside it, NAME_genes.png .svg .pdf for the bar chart, NAME_caption.txt for the
words. The same circuit gives the same bytes. Where a folder holds files of another cell type under that name,
in whatever capitals, NAME ends in eight characters of a hash.
"""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from scx_core.cells.choices import as_names
from scx_core.circuits.circuit import Circuit, read_circuit
from scx_core.errors import ScxError
from scx_core.figures import captions
from scx_core.figures.bars import genes_picture
from scx_core.figures.drawing.drawing import Drawing, View
from scx_core.figures.drawing.edits import Edits, drawn, edited, hidden_nodes, without
from scx_core.figures.drawing.layout import simplify
from scx_core.figures.picture import circuit_picture
from scx_core.figures.table import gene_table, table_csv
from scx_core.runs.files import is_folder, portable, to_json_text, write_atomic

from .html import circuit_page
from .network import to_graphml
from .neuronpedia import to_neuronpedia

DEFAULT_FORMATS = ("png", "svg", "pdf", "html", "graphml", "json", "neuronpedia", "csv")
_MOST_CHARACTERS = 60


class _Job(NamedTuple):
    """Everything that a format may need."""

    circuit: Circuit
    view: View
    markers: frozenset[str] | None
    shared: frozenset[str]
    labels: Mapping[str, str]
    edits: Edits = Edits()

    def drawing(self) -> Drawing:
        if self.edits != Edits():
            return drawn(self.circuit, self.edits, self.view, markers=self.markers or frozenset())
        return simplify(self.circuit, self.view, markers=self.markers or frozenset(), labels=self.labels)

    def record(self) -> Circuit:
        """The whole circuit with a person's names and steps; what was hidden is named in its provenance."""
        return self.circuit if self.edits == Edits() else edited(self.circuit, self.edits)

    def graph(self) -> Circuit:
        """The same, without what was hidden."""
        hidden = hidden_nodes(self.circuit, self.edits)
        return without(self.record(), hidden) if hidden else self.record()


class _Format(NamedTuple):
    ending: str
    mime: str
    make: Callable[[_Job], bytes]


def _picture(ending: str) -> Callable[[_Job], bytes]:
    return lambda job: circuit_picture(job.drawing(), ending)


def _bars(ending: str) -> Callable[[_Job], bytes]:
    return lambda job: genes_picture(
        job.graph(),
        ending,
        markers=job.markers or frozenset(),
        size="column" if job.view.size == "column" else "wide",
    )


def _genes(job: _Job) -> bytes:
    """The gene table; where genes were hidden by hand it says which."""
    table = gene_table(job.circuit, job.markers, job.shared)
    hidden = hidden_nodes(job.circuit, job.edits)
    genes = {node.gene for node in job.circuit.nodes if node.id in hidden and node.kind == "gene"}
    if genes:
        table["hidden_by_hand"] = ["yes" if gene in genes else "no" for gene in table["gene"]]
    return table_csv(table)


def _caption(drawing: Drawing) -> str:
    """The words around the figure as text: title, caption, five plain sentences, notes, provenance."""
    title = f"{drawing.title}: {drawing.subtitle}"
    parts = (title, drawing.caption, "\n".join(drawing.explained), "; ".join(drawing.notes))
    return "\n\n".join(part for part in (*parts, drawing.provenance) if part) + "\n"


def _json(data: object) -> bytes:
    return (to_json_text(data, indent=1) + "\n").encode("utf-8")


_FORMATS = {
    "png": _Format(".png", "image/png", _picture("png")),
    "svg": _Format(".svg", "image/svg+xml", _picture("svg")),
    "pdf": _Format(".pdf", "application/pdf", _picture("pdf")),
    "html": _Format(".html", "text/html", lambda job: circuit_page(job.drawing()).encode("utf-8")),
    "graphml": _Format(".graphml", "application/xml", lambda job: to_graphml(job.graph(), job.drawing())),
    "json": _Format(".json", "application/json", lambda job: _json(job.record().to_json())),
    "neuronpedia": _Format(
        "_neuronpedia.json", "application/json", lambda job: to_neuronpedia(job.graph(), job.labels)
    ),
    "csv": _Format(
        "_genes.csv",
        "text/csv",
        _genes,
    ),
    "caption": _Format("_caption.txt", "text/plain", lambda job: _caption(job.drawing()).encode("utf-8")),
    "genes.png": _Format("_genes.png", "image/png", _bars("png")),
    "genes.svg": _Format("_genes.svg", "image/svg+xml", _bars("svg")),
    "genes.pdf": _Format("_genes.pdf", "application/pdf", _bars("pdf")),
}
FORMATS = tuple(_FORMATS)


def export_bytes(
    circuit: Circuit,
    file_format: str,
    *,
    view: View | None = None,
    markers: frozenset[str] | None = None,
    shared: frozenset[str] = frozenset(),
    labels: Mapping[str, str] | None = None,
    edits: Edits | None = None,
) -> bytes:
    """The circuit in one of `FORMATS`. `markers` is None when no list is known for the cell type;
    `edits`: what a person did to the picture. Names and steps reach every format; what was hidden is left out
    of pictures and graphs, marked in the gene table, and listed in the provenance of the JSON.

    Raises ScxError for an unknown format.
    """
    check_format(file_format)
    job = _Job(circuit, view or View(), markers, shared, labels or {}, edits or Edits())
    return _FORMATS[file_format].make(job)


def export(
    circuit: Circuit,
    where: Path | str,
    formats: Iterable[str] = DEFAULT_FORMATS,
    *,
    view: View | None = None,
    markers: frozenset[str] | None = None,
    shared: frozenset[str] = frozenset(),
    labels: Mapping[str, str] | None = None,
    edits: Edits | None = None,
) -> list[Path]:
    """Write the circuit; returns the files in the order written.

    `where` is a folder (made when absent), or a file name whose ending is one of the formats (a name on
    `neuronpedia.json` is Neuronpedia's): then only that file is written, and `formats` is not looked at.
    Everything is made before the first file is written. Raises ScxError for an unknown format or a place
    that cannot be written to.
    """
    where, formats = Path(where), as_names(formats)
    single = one_file(where, formats)
    wanted = {single: where} if single else _places(circuit, where, formats)
    contents: dict[Path, bytes] = {}
    for name, path in wanted.items():
        contents[path] = export_bytes(
            circuit, name, view=view, markers=markers, shared=shared, labels=labels, edits=edits
        )
        if name == "csv":
            contents[path.with_suffix(".provenance.json")] = _json(circuit.provenance)
    for path, content in contents.items():
        write_atomic(path, content)
    return list(contents)


def one_file(where: Path | str, formats: Iterable[str]) -> str | None:
    """The format of the one file that `where` names; None for a folder, into which all `formats` go. Raises
    ScxError for an unknown format: asked before a circuit is traced."""
    where = Path(where)
    single = "neuronpedia" if where.name.lower().endswith("neuronpedia.json") else where.suffix.lower()[1:]
    if single in DEFAULT_FORMATS and not os.path.isdir(where):  # noqa: PTH112 (of a name too long it says no)
        return single
    for name in formats:
        check_format(name)
    return None


def check_format(file_format: str) -> None:
    """Raises ScxError for an unknown format."""
    if file_format not in _FORMATS:
        raise ScxError(
            f"{file_format!r} is not a format that a circuit can be exported to.",
            f"Choose among {', '.join(FORMATS)}.",
        )


def file_name(circuit: Circuit, file_format: str) -> str:
    """A file name for the circuit that every file system takes: whose it is, which cells, against what.
    Raises ScxError for an unknown format."""
    check_format(file_format)
    return _stem(circuit) + _FORMATS[file_format].ending


def _stem(circuit: Circuit) -> str:
    title, *scope, against = _whose(circuit)
    return "_".join([safe_name(title), *scope, *([f"against_{safe_name(against)}"] if against else [])])


def _whose(circuit: Circuit) -> list[str]:
    """Title, scope and row, and the only competitor ("" where there is none), before letters are left out."""
    cell = circuit.provenance.get("cell")
    row = cell.get("row") if circuit.scope == "cell" and isinstance(cell, Mapping) else None
    scope = "one_cell" if circuit.scope == "cell" else f"{circuit.scope}_{circuit.n_cells}_cells"
    one = len(circuit.target.against) == 1 and circuit.scope != "difference"
    rows = [str(row)] if isinstance(row, int) else []
    return [captions.title(circuit), scope, *rows, circuit.target.against[0] if one else ""]


def _places(circuit: Circuit, folder: Path, formats: Iterable[str]) -> dict[str, Path]:
    """The file of each format in a folder: under a name that no other cell type has there."""
    stem = _stem(circuit)
    if _of_another(circuit, stem, folder):
        stem += f"-{_hash(repr(_whose(circuit)))}"
    return {name: folder / f"{stem}{_FORMATS[name].ending}" for name in formats}


def _of_another(circuit: Circuit, stem: str, folder: Path) -> bool:
    """Whether files of this name are of another: spelled with other capitals, which macOS and Windows do not
    tell apart, or with a JSON that names another type, of which the same letters are left."""
    held = {path.name for path in folder.iterdir()} if is_folder(folder) else set()
    ours = {stem + one.ending for one in _FORMATS.values()}
    if not held & ours:
        return bool({name.lower() for name in held} & {name.lower() for name in ours})
    path = folder / f"{stem}{_FORMATS['json'].ending}"
    with suppress(ScxError):
        return path.name in held and _whose(read_circuit(path)) != _whose(circuit)
    return False


def mime_type(file_format: str) -> str:
    """The media type of a format, for a download button. Raises KeyError for an unknown one."""
    return _FORMATS[file_format].mime


def safe_name(label: str) -> str:
    """Letters, digits, "+", "-" and "_" of `label`: "CD4+/CD25 T Reg" → "CD4+_CD25_T_Reg".

    A label with nothing left becomes "circuit-" and eight characters of its hash, a long one is cut and ends
    in them, so that two such labels do not share a file.
    """
    ascii_text = unicodedata.normalize("NFKD", label).encode("ascii", "ignore").decode("ascii")
    name = re.sub(r"[^A-Za-z0-9+-]+", "_", ascii_text).strip("_-")
    if len(name) > _MOST_CHARACTERS:
        name = f"{name[: _MOST_CHARACTERS - 9].rstrip('_-')}-{_hash(label)}"
    if not re.search(r"[A-Za-z0-9]", name):
        return "circuit-" + _hash(label)
    return portable(name)


def _hash(label: str) -> str:
    return hashlib.sha256(label.encode("utf-8", "replace")).hexdigest()[:8]
