"""Every way in which names leave scX, against every hostile text: the file is well-formed by a strict reader
of its format, the text is there or visibly escaped, nothing runs, and nothing is written outside the folder.

Which functions write is found in the source: a new one that stands in no list here fails the test.
"""

from __future__ import annotations

import ast
import csv
import io
import json
import math
import re
import shutil
import subprocess
import xml.etree.ElementTree as ET
from collections.abc import Callable
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, NamedTuple

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from PIL import Image
from safetensors import safe_open

from scx_core.atlas.annotate import write_annotated
from scx_core.atlas.gene_sets.gmt import GeneSet, GeneSets, read_gmt
from scx_core.atlas.gene_sets.set_readers import write_gmt
from scx_core.cells.formats.label_files import read_mapping, write_mapping
from scx_core.cells.formats.sources import keep_upload
from scx_core.circuits.difference import Difference
from scx_core.display import as_markdown
from scx_core.errors import ScxError
from scx_core.figures import export, export_bytes, export_comparison
from scx_core.figures.drawing.text import plain
from scx_core.figures.formats.export import FORMATS
from scx_core.figures.pair import pair_picture
from scx_core.figures.saved_view import SavedView, parse_view
from scx_core.figures.table import table_csv
from scx_core.runs import RunFolder
from scx_core.runs.files import append_jsonl, read_json, read_jsonl, to_json_text, write_json
from scx_core.share import keep_in, result_in
from scx_core.transcoders import load_set
from scx_core.transcoders.layouts import LAYOUTS, export_set
from tests.builders.hostile import HOSTILE_TEXTS, RAW
from tests.figures.fakes import cell_circuit
from tests.figures.test_pareto import KNOWN, row
from tests.figures.test_pareto import table as runs_table
from tests.transcoders.layout_sets import random_set

ROOT = Path(__file__).resolve().parents[2]
N_GENES = 8
HALF = re.compile("[\ud800-\udfff]")
TEXTS = (*HOSTILE_TEXTS, "half a \ud83d character", "N" * 10_000)


def circuit_of(text: str) -> Any:
    """A small circuit in which a gene, a feature, a token, a type and the provenance are called so."""
    circuit = cell_circuit(3, n_genes=N_GENES, n_layers=2, n_features=4)
    first = circuit.genes[0].gene
    nodes = tuple(
        n._replace(
            gene=text if n.gene == first else n.gene,
            token=text if n.token and n.gene == first else n.token,
            name=text if n.kind == "feature" else n.name,
        )
        for n in circuit.nodes
    )
    return circuit._replace(
        target=circuit.target._replace(label=text, answer=text, against=(text,)),
        genes=tuple(one._replace(gene=text) if one.gene == first else one for one in circuit.genes),
        nodes=nodes,
        sentence=tuple(text if gene == first else gene for gene in circuit.sentence),
        provenance=circuit.provenance | {"data": {"name": text, "fingerprint": "1"}, "note": text},
    )


# Strict readers: each gives the texts that a person or a program finds in the file.


class _Strict(HTMLParser):
    """Elements with attributes, and what is text outside of scripts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self._inside = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._inside = tag if tag in ("script", "style") else self._inside

    def handle_endtag(self, tag: str) -> None:
        self._inside = "" if tag == self._inside else self._inside

    def handle_data(self, data: str) -> None:
        if not self._inside:
            self.words.append(data)


def html_texts(data: bytes) -> list[str]:
    page = _Strict(data.decode("utf-8"))
    for tag, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on")], (tag, attributes)
        linked = [attributes.get(name) or "" for name in ("href", "src", "srcdoc", "action", "data")]
        assert not [one for one in linked if one and not one.startswith(("data:", "#"))], (tag, attributes)
        assert tag not in ("iframe", "object", "embed", "base", "form"), tag
    outside_scripts = re.sub(rb"<script\b.*?</script>", b"", data, flags=re.DOTALL).decode("utf-8")
    assert not [piece for piece in RAW if piece in outside_scripts]
    return page.words


def svg_texts(data: bytes) -> list[str]:
    root = ET.fromstring(data)
    for one in root.iter():
        assert one.tag.rpartition("}")[2] not in ("script", "foreignObject", "a", "iframe", "set", "animate")
        linked = [value for name, value in one.attrib.items() if name.rpartition("}")[2] == "href"]
        assert not [value for value in linked if not value.startswith(("#", "data:image/png"))]
        assert not [name for name in one.attrib if name.rpartition("}")[2].startswith("on")]
    return ["".join(one.itertext()) for one in root.iter("{http://www.w3.org/2000/svg}text")]


def pdf_texts(data: bytes) -> list[str]:
    for key in (b"/JavaScript", b"/JS", b"/Launch", b"/OpenAction", b"/URI", b"/EmbeddedFile", b"/AA"):
        assert not re.search(key + rb"\b", data), key
    assert data.startswith(b"%PDF-") and data.rstrip().endswith(b"%%EOF")
    if shutil.which("pdftotext") is None:
        return []
    found = subprocess.run(["pdftotext", "-", "-"], input=data, capture_output=True, check=True)
    assert not found.stderr, found.stderr
    return found.stdout.decode("utf-8").splitlines()


def png_texts(data: bytes) -> list[str]:
    with Image.open(io.BytesIO(data)) as picture:
        picture.load()
    return []


def csv_texts(data: bytes) -> list[str]:
    rows = list(csv.reader(io.StringIO(data.decode("utf-8-sig"), newline=""), strict=True))
    assert len({len(one) for one in rows}) == 1, "every line has as many fields"
    for one in rows:
        for cell in one:
            if cell[:1] in tuple("=+-@\t\r\n"):
                float(cell.replace(",", ""))  # a number, or a formula
    return [cell for one in rows for cell in one]


def json_texts(data: bytes) -> list[str]:
    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    found: list[str] = []

    def walk(value: Any) -> None:
        if isinstance(value, dict):
            for key, one in value.items():
                found.append(key)
                walk(one)
        elif isinstance(value, list):
            for one in value:
                walk(one)
        elif isinstance(value, str):
            found.append(value)

    walk(json.loads(data.decode("utf-8"), parse_constant=refuse))
    return found


def xml_texts(data: bytes) -> list[str]:
    assert b"<!DOCTYPE" not in data.split(b"<graph ")[0] and b"<!ENTITY" not in data.split(b"<graph ")[0]
    return ["".join(one.itertext()) for one in ET.fromstring(data).iter()]


def plain_texts(data: bytes) -> list[str]:
    text = data.decode("utf-8")
    assert not [c for c in text if c < " " and c != "\n"]
    return text.split("\n")


READERS: dict[str, Callable[[bytes], list[str]]] = {
    ".html": html_texts,
    ".svg": svg_texts,
    ".pdf": pdf_texts,
    ".png": png_texts,
    ".csv": csv_texts,
    ".json": json_texts,
    ".jsonl": lambda data: [text for line in data.splitlines() for text in json_texts(line)],
    ".graphml": xml_texts,
    ".txt": plain_texts,
    ".md": plain_texts,
}


class Exporter(NamedTuple):
    """`write` puts files that hold the text into a folder. `drawn`: shortened and on one line, so that its
    beginning is looked for."""

    write: Callable[[str, Path], Any]
    drawn: bool = False


def _circuit(name: str) -> Callable[[str, Path], Any]:
    def write(text: str, folder: Path) -> None:
        export(circuit_of(text), folder, [name])

    return write


def _pair(kind: str) -> Callable[[str, Path], Any]:
    def write(text: str, folder: Path) -> None:
        one = circuit_of(text)
        found = Difference((text, "B"), one, one, one._replace(scope="difference"))
        (folder / f"pair.{kind}").write_bytes(pair_picture(found, kind))

    return write


def _comparison(text: str, folder: Path) -> None:
    rows = runs_table(row(text, 4, 0.98), row("b", 8, 0.99, kind=text), row("c", 9, 0.97, setting=text))
    export_comparison(rows, folder, KNOWN | {"note": text}, ["svg", "csv"])


def _table(text: str, folder: Path) -> None:
    (folder / "t.csv").write_bytes(
        table_csv(pd.DataFrame({"gene": [text, 1.5], text: [text, None]}, dtype=object))
    )


def _view(text: str, folder: Path) -> None:
    saved = SavedView(circuit_of(text), asked={"type": text[:40]})
    (folder / "view.json").write_text(to_json_text(saved.to_json()), encoding="utf-8")
    if not HALF.search(text):
        assert parse_view((folder / "view.json").read_bytes(), "view.json") == saved


def _gmt(text: str, folder: Path) -> None:
    write_gmt(GeneSets("x", (GeneSet(f"set {text}", ("CD79A", f"G{text}"), text),)), folder / "s.gmt")
    (one,) = read_gmt(folder / "s.gmt").sets
    kept = re.sub("[\x00-\x1f\x7f-\x9f\ud800-\udfff]", " ", text)
    assert " ".join(one.name.split()) == " ".join(f"set {kept}".split()) and one.genes[0] == "CD79A"
    shutil.move(folder / "s.gmt", folder / "s.tab")


def _mapping(text: str, folder: Path) -> None:
    path = write_mapping(folder, {text: text})
    assert set(read_mapping(path)) and len(path.name) < 40


def _h5ad(text: str, folder: Path) -> None:
    cells = ad.AnnData(np.ones((2, 1), np.float32), obs=pd.DataFrame({"type": [text, "b"]}, index=["1", "2"]))
    cells.uns["note"] = text
    keep_in(cells, circuit_of(text), text)
    if "\0" in text or HALF.search(text):  # HDF5 holds neither
        with pytest.raises(ScxError, match=r"could not be written.*rename"):
            write_annotated(cells, folder / "cells.h5ad")
        return
    write_annotated(cells, folder / "cells.h5ad")
    back = ad.read_h5ad(folder / "cells.h5ad")
    assert back.obs["type"].iloc[0] == text and back.uns["note"] == text
    assert result_in(back, text).target.answer == text


def _set(layout: str) -> Callable[[str, Path], Any]:
    def write(text: str, folder: Path) -> None:
        made = random_set("relu", False, 1, 3, 2, 1, 0)
        made = type(made)(made.layers, {"name": text, "model_name": text, "provenance": {"note": text}})
        export_set(made, folder / "set", layout)
        assert load_set(folder / "set").meta["name"] == text
        for path in (folder / "set").rglob("*.safetensors"):
            with safe_open(path, "pt") as file:
                assert set(file.metadata() or {}) <= {"format"}
                assert all(torch.isfinite(file.get_tensor(name)).all() for name in list(file.keys()))
        for path in (folder / "set").rglob("*.yaml"):
            assert yaml.safe_load(path.read_text("utf-8"))["scan"] == text

    return write


def _run(text: str, folder: Path) -> None:
    run = RunFolder.create(folder, "train", {"note": text}, provenance={"note": text}, argv=[text])
    run.log({"step": 1, "note": text})
    run.write_status("failed", 1, 2, text)
    assert RunFolder.open(run.path).config["note"] == text and run.metrics()[0]["note"] == text
    try:
        named = RunFolder.create(folder, "train", {}, text)
    except ScxError:
        return
    assert named.path.parent == folder and named.path.name == text


def _upload(text: str, folder: Path) -> None:
    path = keep_upload(text, io.BytesIO(b"x"), folder / "uploads")
    assert path.parent.parent == folder / "uploads" and re.fullmatch(r"[A-Za-z0-9._ -]{1,90}", path.name)
    shutil.rmtree(folder / "uploads")


def _json_files(text: str, folder: Path) -> None:
    write_json(folder / "a.json", {text: [text, math.nan]})
    append_jsonl(folder / "a.jsonl", {"text": text})
    assert read_json(folder / "a.json")[text][0] == text
    assert read_jsonl(folder / "a.jsonl") == [{"text": text}]


def _markdown(text: str, folder: Path) -> None:
    (folder / "card.md").write_text(f"# {as_markdown(text)}\n", encoding="utf-8")


PICTURES = ("png", "svg", "pdf", "genes.png", "genes.svg", "genes.pdf")
EXPORTERS: dict[str, Exporter] = {
    **{f"circuit {name}": Exporter(_circuit(name), name in PICTURES) for name in FORMATS},
    "pair svg": Exporter(_pair("svg"), True),
    **{f"set {layout}": Exporter(_set(layout)) for layout in LAYOUTS},
    "comparison of runs": Exporter(_comparison, True),
    "table": Exporter(_table),
    "view": Exporter(_view),
    "gene sets": Exporter(_gmt),
    "mapping of labels": Exporter(_mapping),
    "cells": Exporter(_h5ad),
    "run": Exporter(_run),
    "upload": Exporter(_upload),
    "JSON": Exporter(_json_files),
    "card": Exporter(_markdown),
}
# Pictures take a tenth of a second each: a few of the texts, each of another kind of attack.
FEW = (4, 5, len(HOSTILE_TEXTS))
CASES = [
    (name, k)
    for name, one in EXPORTERS.items()
    for k in range(len(TEXTS))
    if not (one.drawn or name in ("circuit html", "circuit caption")) or k in FEW
]


def survives(text: str, found: list[str], drawn: bool) -> bool:
    """Whether the text is among what was found, as it is or escaped so that a person sees what it was."""
    words = " ".join("".join(found).split())
    shown = plain(text)
    escaped = (text, shown, f"'{shown}", HALF.sub("?", text), as_markdown(text))
    if any(one in found for one in escaped) or shown in re.sub(r"\\(?=[!-/:-@\[-`{-~])", "", words):
        return True
    start = "".join(c for c in shown if c.isascii() and c.isprintable()).strip()[: 4 if drawn else 12].strip()
    return start.replace(" ", "").replace("\\", "") in words.replace(" ", "").replace("\\", "")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("name", "k"), CASES, ids=[f"{name}-{k}" for name, k in CASES])
def test_a_hostile_text_leaves_as_text(name: str, k: int, tmp_path: Path) -> None:
    text, exporter = TEXTS[k], EXPORTERS[name]
    folder = tmp_path / "inside" / "folder"
    folder.mkdir(parents=True)
    exporter.write(text, folder)
    outside = {path for path in tmp_path.rglob("*") if path.is_file() and not path.is_relative_to(folder)}
    assert not outside
    read: list[str] = []
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            assert len(path.name.encode()) < 200 and not re.search(r'[\x00-\x1f<>:"|?*\\]', path.name)
            reader = READERS.get(path.suffix)
            read += [] if reader is None else reader(path.read_bytes())
    if read:
        assert survives(text, read, exporter.drawn), (name, text[:40], read[:20])


# Which functions write, and what tries them here. A reason instead of an exporter says why none is needed.
OWN = "JSON of our own, by to_json_text: the exporter JSON"
BITS = "numbers alone"
PASSED_ON = "bytes that one of the exporters made"
TESTED = "with hostile names in its own tests: "
WRITERS = {
    "atlas.annotate.write_annotated": "cells",
    "atlas.gene_sets.set_readers.write_gmt": "gene sets",
    "atlas.rating.ratings.rate": OWN,
    "atlas.tables.atlas.Atlas.give_label": OWN,
    "atlas.tables.atlas.Atlas.save": f"{TESTED}tests/atlas/test_prepared_atlas.py",
    "atlas.tables.atlas.Atlas.with_tables": f"{TESTED}tests/pages/test_hostile_names.py",
    "build.heart.prepare_heart": OWN,
    "build.heart.run_heart": OWN,
    "build.language_training.save_model": OWN,
    "build.pipeline._name_model": OWN,
    "build.pipeline._stages": "card",
    "build.pipeline._transcoders": OWN,
    "build.plantings._same_settings": OWN,
    "build.plantings.run_plantings": OWN,
    "build.transfer.prepare_transfer": OWN,
    "build.transfer.run_transfer": OWN,
    "cells.computed_map.computed_map": BITS,
    "cells.formats.label_files.write_mapping": "mapping of labels",
    "cells.formats.sources.keep_upload": "upload",
    "circuits.many_cells.kept_cells.KeptCells.write": OWN,
    "cli.atlas.atlas.run": f"{BITS}: shares by verdict",
    "cli.atlas.match.run": f"{BITS}: layers and features",
    "cli.atlas.rate.run": "table",
    "cli.cells.prepare._write_sentences": OWN,
    "cli.cells.prepare.run": OWN,
    "cli.circuits.difference._draw": "pair svg",
    "cli.main.main": OWN,
    "evidence.by_type.measure.measure_type": OWN,
    "evidence.by_type.parts.Parts.__call__": OWN,
    "figures.drawing.pen.picture_bytes": "circuit svg",
    "figures.formats.export.export": "circuit json",
    "figures.pareto.export_comparison": "comparison of runs",
    "figures.report.files.write_report": f"{TESTED}tests/figures/test_report.py",
    "figures.report.print_out._Flow.finish": f"{TESTED}tests/figures/test_report.py",
    "figures.report.print_out._picture": f"{TESTED}tests/figures/test_report.py",
    "figures.table.table_csv": "table",
    "pl._finished": PASSED_ON,
    "runs.cached_results.cached": OWN,
    "runs.checkpoints.save": f"{OWN}; {BITS} in the tensors",
    "runs.files.write_atomic": PASSED_ON,
    "runs.files.write_json": "JSON",
    "runs.jobs.start": OWN,
    "runs.jobs.stop": BITS,
    "runs.ranks.RankFile.write": OWN,
    "runs.run_folder.RunFolder.create": "run",
    "runs.run_folder.RunFolder.log": "run",
    "runs.run_folder.RunFolder.truncate_metrics": "run",
    "runs.run_folder.RunFolder.update": OWN,
    "runs.run_folder.RunFolder.write_status": "run",
    "runs.tensorboard.Mirror._begin": f"{BITS}, under the names of our own figures",
    "share.page.write_share": f"{TESTED}tests/share/test_share.py",
    "tasks.makers._write_so_far": OWN,
    "tasks.makers_of_reports.report": f"{TESTED}tests/figures/test_report.py",
    "training.processes.hosts._send": BITS,
    "training.tokens._write": BITS,
    "training.tokens.cached_texts": OWN,
    "training.train.new_run": OWN,
    "transcoders.layouts.circuit_tracer.write": "set circuit-tracer",
    "transcoders.layouts.cross_layer.write": OWN,
    "transcoders.layouts.parts.write_tensors": "set circuit-tracer",
    "transcoders.layouts.saelens.write": "set saelens",
    "transcoders.layouts.sparsify.write": "set sparsify",
    "transcoders.layouts.write_set": "set circuit-tracer",
    "validation.standing.keep_validation": f"{TESTED}tests/pages/test_hostile_names.py",
}
_SINKS = {
    "write_atomic", "replace_atomic", "write_json", "append_jsonl", "to_csv", "to_excel", "to_parquet",
    "save_file", "safe_dump", "write_elem", "write_h5ad", "write_zarr", "save_pretrained", "savefig", "savez",
    "write_text", "SummaryWriter", "tostring", "write_graphml", "write_gexf",
}  # fmt: skip


def writers(root: Path) -> set[str]:
    """The functions of the package that call something which writes, by module and name."""
    found = set()

    def visit(node: ast.AST, where: str) -> None:
        for one in ast.iter_child_nodes(node):
            if not isinstance(one, (ast.FunctionDef, ast.ClassDef)):
                visit(one, where)
                continue
            if isinstance(one, ast.ClassDef):
                visit(one, f"{where}.{one.name}")
                continue
            calls = [call.func for call in ast.walk(one) if isinstance(call, ast.Call)]
            names = {getattr(func, "id", None) or getattr(func, "attr", "") for func in calls}
            if names & _SINKS:
                found.add(f"{where}.{one.name}")

    for path in root.rglob("*.py"):
        where = ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
        if not where.startswith("bench"):  # of the machine, and not of anybody's data
            visit(ast.parse(path.read_text("utf-8")), where)
    return found


@cache
def _found() -> frozenset[str]:
    return frozenset(writers(ROOT / "scx_core"))


def test_every_function_that_writes_is_tried_or_says_why_not() -> None:
    missing, gone = sorted(_found() - WRITERS.keys()), sorted(WRITERS.keys() - _found())
    assert not missing, f"name what tries them: {missing}"
    assert not gone, f"they write no longer: {gone}"
    reasons = (OWN, BITS, PASSED_ON, TESTED)
    for writer, by in WRITERS.items():
        assert by in EXPORTERS or by.startswith(reasons), writer
        if by.startswith(TESTED):
            assert (ROOT / by.removeprefix(TESTED)).is_file(), writer


def test_pages_offer_only_what_the_package_made() -> None:
    """A page that wrote a file by itself would not be found above."""
    sinks = ("to_csv(", "to_excel(", "write_text(", "write_bytes(", "savefig(", "csv.writer", "to_parquet(")
    for path in (ROOT / "pages").rglob("*.py"):
        assert not [sink for sink in sinks if sink in path.read_text("utf-8")], path


def test_a_graph_is_written_at_all() -> None:
    assert len(export_bytes(circuit_of("a"), "graphml")) > 1000
