"""The gene table, and files that are complete, safely named and the same each time."""

import io
import json
import re

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scx_core.circuits.circuit import Circuit
from scx_core.errors import ScxError
from scx_core.figures import (
    FORMATS,
    View,
    export_bytes,
    file_name,
    gene_table,
    markers_of,
    mime_type,
    safe_name,
    table_csv,
)
from scx_core.figures.formats.export import export
from scx_core.runs.files import is_portable
from tests.figures.fakes import B_CELL, cell_circuit, consensus_circuit, hostile_circuit

MARKERS = frozenset(B_CELL)
SHARED = frozenset({"HLA-DRA", "CD74"})


def test_table_is_ranked_and_says_what_is_known():
    circuit = consensus_circuit()
    table = gene_table(circuit, MARKERS, SHARED).set_index("gene")
    assert table["frozen_attribution"].abs().is_monotonic_decreasing
    assert len(table) == 100
    assert table.loc["CD79A", "known_marker"] == "yes — CD19+ B"
    assert table.loc["HLA-DRA", "known_marker"] == "shared"
    assert table.loc["LYZ", "known_marker"] == "no"
    assert table.loc["LYZ", "direction"] == "lowers"
    assert table.loc["CD79A", "n_cells"] == next(r.n_cells for r in circuit.genes if r.gene == "CD79A")
    assert set(gene_table(circuit)["known_marker"]) == {"unknown"}


def test_markers_are_found_by_the_label_of_the_answer():
    markers, shared = markers_of(consensus_circuit())
    assert markers is not None
    assert "CD79A" in markers
    assert "HLA-DRA" in shared
    unknown = consensus_circuit()._replace(target=consensus_circuit().target._replace(answer="no such type"))
    assert markers_of(unknown) == (None, frozenset())


def test_csv_reads_back_in_pandas():
    table = gene_table(consensus_circuit(), MARKERS)
    again = pd.read_csv(io.BytesIO(table_csv(table)))
    pd.testing.assert_frame_equal(again, table, check_dtype=False)


@given(st.text(max_size=20))
def test_no_text_cell_of_a_csv_is_a_formula(name):
    table = pd.DataFrame({"gene": pd.Series([name], dtype=object), "effect": [-1.0]})
    again = pd.read_csv(io.BytesIO(table_csv(table)), keep_default_na=False, dtype=str)
    assert len(again) == 1
    assert not again.loc[0, "gene"].lstrip().startswith(("=", "+", "-", "@"))
    assert float(again.loc[0, "effect"]) == -1.0


def test_csv_of_hostile_names():
    genes = pd.read_csv(io.BytesIO(export_bytes(hostile_circuit(), "csv")), keep_default_na=False)[
        "gene"
    ].tolist()
    assert "'=1+2" in genes
    assert "<img src=x onerror=alert(1)>" in genes
    assert "NEW LINE [31m" in genes


@pytest.mark.parametrize("circuit", [cell_circuit(), hostile_circuit("consensus")], ids=["plain", "hostile"])
def test_export_writes_every_format_and_the_same_again(circuit, tmp_path):
    formats = ("svg", "html", "graphml", "json", "csv", "genes.svg")
    first = export(circuit, tmp_path / "one", formats, view=View(size="column"), markers=MARKERS)
    second = export(circuit, tmp_path / "two", formats, view=View(size="column"), markers=MARKERS)
    assert len(first) == len(formats) + 1
    assert [p.read_bytes() for p in first] == [p.read_bytes() for p in second]
    assert sorted(p.name for p in (tmp_path / "one").iterdir()) == sorted(p.name for p in first)
    beside = next(p for p in first if p.name.endswith("_genes.provenance.json"))
    assert json.loads(beside.read_text("utf-8")) == circuit.provenance
    graph = next(p for p in first if p.suffix == ".json" and "provenance" not in p.name)
    assert Circuit.from_json(json.loads(graph.read_text("utf-8"))) == circuit


def test_export_to_a_file_writes_that_format(tmp_path):
    (path,) = export(cell_circuit(), tmp_path / "figure.SVG")
    assert path.read_bytes().startswith(b"<?xml")
    table, beside = export(cell_circuit(), tmp_path / "genes.csv")
    assert (table.name, beside.name) == ("genes.csv", "genes.provenance.json")


def test_an_unknown_format_writes_nothing(tmp_path):
    with pytest.raises(ScxError, match="bmp"):
        export(cell_circuit(), tmp_path / "out", ("json", "bmp"))
    assert not (tmp_path / "out").exists()
    with pytest.raises(ScxError, match="docx"):
        export_bytes(cell_circuit(), "docx")


def test_a_place_that_is_a_file_is_a_users_error(tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(ScxError, match="taken"):
        export(cell_circuit(), tmp_path / "taken", ("json",))


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("CD4+/CD25 T Reg", "CD4+_CD25_T_Reg"),
        ("CON", "CON_"),
        ("../../etc/passwd", "etc_passwd"),
        ("Zélie", "Zelie"),
    ],
)
def test_names_of_files(label, name):
    assert safe_name(label) == name


@given(st.text())
def test_any_label_gives_a_name_that_every_file_system_takes(label):
    name = safe_name(label)
    assert 1 <= len(name) <= 61
    assert set(name) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+-_")
    assert is_portable(name)


@pytest.mark.parametrize("label", ["con", "CON", "Nul.", " aux ", "lpt9", "Com1/"])
def test_a_label_that_is_the_name_of_a_device_names_another_file(label):
    assert safe_name(label).lower() == re.sub(r"[^a-z0-9]", "", label.lower()) + "_"


def test_empty_labels_and_foreign_scripts_do_not_share_a_file():
    assert len({safe_name(label) for label in ("", "клетка", "细胞", "...")}) == 4


def _of_type(answer: str, **changes) -> Circuit:
    found = consensus_circuit()
    return found._replace(target=found.target._replace(answer=answer, **changes))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("B cell", "b cell"),
        ("B CELL", "B cell"),
        ("CD4+/CD25", "CD4+ CD25"),
        ("T*", "T?"),
        ("Zélie", "Zelie"),
        ("con", "CON"),
        ("con", "con_"),
    ],
)
def test_two_types_do_not_share_files_in_a_folder(first, second, tmp_path):
    """As macOS and Windows see names: the first keeps its own, and each is written over by itself alone."""
    formats = ("json", "csv", "caption")
    one, two = (_of_type(name) for name in (first, second))
    names = [path.name for path in export(one, tmp_path, formats)]
    assert names[0] == file_name(one, "json")
    others = [path.name for path in export(two, tmp_path, formats)]
    assert not {name.lower() for name in names} & {name.lower() for name in others}
    assert all(is_portable(name) for name in others)
    assert [path.name for path in export(one, tmp_path, formats)] == names
    assert [path.name for path in export(two, tmp_path, formats)] == others
    assert len(list(tmp_path.iterdir())) == len(names) + len(others)
    for circuit, (file, *_) in ((one, names), (two, others)):
        assert Circuit.from_json(json.loads((tmp_path / file).read_bytes())).target == circuit.target


def test_competitors_that_differ_in_capitals_do_not_share_files(tmp_path):
    one, two = (_of_type("B", against=(name,)) for name in ("T cell", "t cell"))
    (first,), (second,) = (export(circuit, tmp_path, ("caption",)) for circuit in (one, two))
    assert first.name == file_name(one, "caption") and first.name.lower() != second.name.lower()


def test_a_type_traced_again_is_written_over_and_a_damaged_file_too(tmp_path):
    (path,) = export(_of_type("B cell"), tmp_path, ("json",))
    assert export(_of_type("B cell", value=1.0), tmp_path, ("json",)) == [path]
    path.write_text("{")
    assert export(_of_type("B cell"), tmp_path, ("json",)) == [path]


def test_every_format_has_a_name_and_a_media_type():
    names = {file_name(consensus_circuit(), file_format) for file_format in FORMATS}
    assert len(names) == len(FORMATS)
    assert "CD19+_B_consensus_30_cells_genes.csv" in names
    assert all("/" in mime_type(file_format) for file_format in FORMATS)
