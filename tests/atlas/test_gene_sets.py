"""Gene sets as files hold them: what is read is what was written, and what is wrong is said with its line."""

import gzip
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scx_core.atlas.gene_sets.gmt import (
    ENSEMBL,
    ENTREZ,
    HUMAN,
    MOUSE,
    joined,
    read_gmt,
    shipped_markers,
    spelling_of,
)
from scx_core.atlas.gene_sets.set_readers import MarkerColumns, read_marker_table
from scx_core.atlas.gene_sets.shared_genes import current_name, name_lookup
from scx_core.cells import all_markers
from scx_core.cells.detection.name_rules import is_written_like_symbol
from scx_core.errors import ScxError

DATA = Path(os.environ.get("SCX_TEST_DATA") or Path(__file__).parents[3] / "shared" / "data")
needs_data = pytest.mark.skipif(not (DATA / "gene_sets").is_dir(), reason="no shared/data/gene_sets")

SYMBOLS = st.from_regex(r"[A-Z][A-Z0-9]{0,6}(?:-[A-Z0-9]{1,3})?", fullmatch=True)
WORDS = st.text(
    st.characters(exclude_characters="\t\n\r\x00\ufeff", exclude_categories=["Cs"]), min_size=1
).filter(lambda text: text == text.strip() and text)
# A file whose second fields are written like genes, and are genes of its sets, has no descriptions.
NOTES = st.one_of(st.just(""), WORDS.filter(lambda text: not is_written_like_symbol(text)))
COLLECTIONS = st.dictionaries(WORDS, st.tuples(NOTES, st.lists(SYMBOLS, min_size=1)), min_size=1, max_size=5)


def gmt(tmp_path, text, name="some.gmt"):
    path = tmp_path / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


@given(COLLECTIONS, st.sampled_from(["\n", "\r\n"]), st.booleans())
def test_what_was_written_is_read(tmp_path_factory, collection, end, packed):
    lines = [f"{name}\t{note}\t" + "\t".join(genes) for name, (note, genes) in collection.items()]
    data = (end.join(lines) + end).encode()
    path = tmp_path_factory.mktemp("gmt") / ("some.gmt.gz" if packed else "some.gmt")
    path.write_bytes(gzip.compress(data) if packed else data)
    found = read_gmt(path)
    assert found.name == "some"
    assert [one.name for one in found.sets] == list(collection)
    for one, (note, genes) in zip(found.sets, collection.values(), strict=True):
        assert one.genes == tuple(dict.fromkeys(genes))
        assert one.note == note


@given(st.binary(max_size=200))
def test_whatever_the_bytes_it_is_read_or_one_message(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("gmt") / "bytes.gmt"
    path.write_bytes(data)
    said = None
    try:
        found = read_gmt(path)
    except ScxError as error:
        said = error
    assert ("bytes.gmt" in said.problem and said.remedy) if said else all(one.genes for one in found.sets)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("A\tx\tCD19\n\nB\tx\n", ("line 3", "'B'", "no genes")),
        ("A\tx\tCD19\n\tx\tCD19\n", ("line 2", "no name")),
        ("A\tx\tCD19\njust words\n", ("line 2", "no tab")),
        ("A\tx\tCD19\nB\tx\tLYZ\nA\tx\tLYZ\n", ("line 3", "line 1", "repeats")),
        ("A\tx\tCD19\nB\t\t \t,1.0\n", ("line 2", "no genes")),
        (b"A\tx\tCD19\nB\xff\tx\tLYZ\n", ("line 2", "UTF-8")),
        (b"\x1f\x8bnot gzip at all", ("cannot be read",)),
        (b"PK\x03\x04\0\0\0\0", ("no text",)),
        ("\n\n", ("no gene set",)),
    ],
)
def test_what_is_wrong_is_said(tmp_path, text, words):
    with pytest.raises(ScxError) as found:
        read_gmt(gmt(tmp_path, text))
    assert all(word in found.value.problem for word in ("some.gmt", *words))


def test_comments_and_unicode_text_of_spreadsheets_are_read(tmp_path):
    text = "# my sets, of 2024\nFIRST\t\tCD19\tMS4A1\n#2\tof two\tCD3E\n"
    for kind in ("utf-8", "utf-16"):
        read = read_gmt(gmt(tmp_path, text.encode(kind)))
        assert [(one.name, one.genes) for one in read.sets] == [
            ("FIRST", ("CD19", "MS4A1")),
            ("#2", ("CD3E",)),
        ]


def test_an_absent_file_is_said(tmp_path):
    with pytest.raises(ScxError, match="no file"):
        read_gmt(tmp_path / "none.gmt")


def test_weights_case_and_versions_are_dealt_with(tmp_path):
    found = read_gmt(gmt(tmp_path, "A\t\tCd19,1.0\tCD19\tEnsg00000012048.21\n"))
    assert found.sets[0].genes == ("CD19", "ENSG00000012048")


@pytest.mark.parametrize(
    ("genes", "spelling"),
    [
        ("CD19 MS4A1 HLA-DRA C19orf43 B2M", HUMAN),
        ("Cd19 Ms4a1 H2-Ab1 Gm1234 B2m", MOUSE),
        ("ENSG00000012048 ENSG00000012049 TP53", ENSEMBL),
        ("7157 672 1956", ENTREZ),
    ],
)
def test_the_spelling_is_told(genes, spelling):
    assert spelling_of(genes.split()) == spelling


def test_shipped_markers_carry_citations():
    found = shipped_markers()
    assert len(found) == len(all_markers())
    assert all("doi:" in one.note for one in found.sets)
    assert "MS4A1" in next(one for one in found.sets if one.name == "B cell").genes


def test_joined_collections_have_distinct_names(tmp_path):
    first = read_gmt(gmt(tmp_path, "A\t\tCD19\nB\t\tLYZ\n", "one.gmt"))
    second = read_gmt(gmt(tmp_path, "A\t\tMS4A1\n", "one.gmt"))
    both = joined([first, second])
    assert [one.name for one in both.sets] == ["1. one: A", "B", "2. one: A"]
    mouse = read_gmt(gmt(tmp_path, "A\t\tCd19\tMs4a1\n", "mouse.gmt"))
    with pytest.raises(ScxError, match="mouse symbols"):
        joined([first, mouse])
    with pytest.raises(ScxError, match="No gene sets"):
        joined([])


def test_former_names_find_the_gene():
    assert current_name("IGJ") == "JCHAIN"
    assert current_name("MARCH1") == current_name("1-MAR") == "MARCHF1"
    assert current_name("2-SEP") == "SEPTIN2"
    numbers = name_lookup(["IGJ", "JCHAIN", "GNB2L1", "CD19"])
    assert numbers["IGJ"] == 0 and numbers["JCHAIN"] == 1
    assert numbers["RACK1"] == 2 and numbers["CD19"] == 3


def test_a_table_with_one_row_a_gene(tmp_path):
    text = "species\tofficial gene symbol\tcell type\torgan\n"
    text += "Mm Hs\tCD19\tB cells\tBlood\nMm\tCd22\tB cells\tBlood\nHs\tLYZ\tMonocytes\tBlood\n"
    found = read_marker_table(gmt(tmp_path, text, "p.tsv"))
    assert {one.name: one.genes for one in found.sets} == {"B cells": ("CD19",), "Monocytes": ("LYZ",)}
    mouse = read_marker_table(gmt(tmp_path, text, "p.tsv"), "Mus musculus")
    assert mouse.sets[0].genes == ("CD19", "CD22")


def test_a_table_with_one_row_a_type(tmp_path):
    text = 'cellName,geneSymbol\nB cell,"CD19, [HLA-A, HLA-B], NA"\nempty,NA\n'
    found = read_marker_table(gmt(tmp_path, text, "c.csv"))
    assert [(one.name, one.genes) for one in found.sets] == [("B cell", ("CD19", "HLA-A", "HLA-B"))]
    own = gmt(tmp_path, "kind;names\nB cell;CD19,LYZ\n", "own.csv")
    with pytest.raises(ScxError, match=r"own.csv has no column.*it has: kind, names"):
        read_marker_table(own)
    assert read_marker_table(own, columns=MarkerColumns("kind", "names")).sets[0].genes == ("CD19", "LYZ")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("cell type,gene\nB,CD19\nT,CD3D,CD3E\n", ("line 3", "3 columns")),
        ('cell type,gene\nB,"CD19\n', ("line", "cannot be read")),
        ("cell type,gene\nB,\n", ("no row", "'gene'")),
        ("words\n", ("no table",)),
        ("cell type,gene,species\nB,CD19,Mouse\n", ("no row of Homo sapiens",)),
    ],
)
def test_what_is_wrong_with_a_table_is_said(tmp_path, text, words):
    with pytest.raises(ScxError) as found:
        read_marker_table(gmt(tmp_path, text, "t.csv"))
    assert all(word in found.value.problem for word in ("t.csv", *words))


@needs_data
@pytest.mark.parametrize(
    ("name", "sets"),
    [
        ("msigdb_human_hallmark_v2025", 50),
        ("msigdb_human_reactome_v2025", 1787),
        ("enrichr_GO_Biological_Process_2021", 6036),
    ],
)
def test_public_collections(name, sets):
    found = read_gmt(DATA / "gene_sets" / f"{name}.gmt.gz")
    assert len(found) == sets and found.spelling == HUMAN


@needs_data
@pytest.mark.parametrize(
    ("name", "cell_type", "gene", "least"),
    [
        ("PanglaoDB_markers_27_Mar_2020.tsv.gz", "B cells", "CD19", 150),
        ("azimuth_pbmc1.csv", "Mono", "LYZ", 7),
        ("azimuth_heart_l2.csv", "Adipocyte", "PLIN1", 20),
        ("celltypist_encyclopedia_v2.csv", "Follicular B cells", "CXCR5", 90),
    ],
)
def test_public_marker_tables(name, cell_type, gene, least):
    found = read_marker_table(DATA / "markers" / name)
    assert len(found) >= least and found.spelling == HUMAN
    assert gene in {one.name: one.genes for one in found.sets}[cell_type]


GENES_OF = {"B": "CD79A MS4A1 CD74", "T": "CD3D IL7R CCL5", "Mono": "LYZ CST3 S100A8", "NK": "NKG7 GNLY PRF1"}
ODD = {
    "no description": ("\n".join("\t".join([n, *g.split()]) for n, g in GENES_OF.items()), "no descriptions"),
    "in columns": (
        "\n".join(
            "\t".join(row) for row in zip(*([n, "na", *g.split()] for n, g in GENES_OF.items()), strict=True)
        ),
        "a set in each column",
    ),
    "commas": ("\n".join(f"{n}\tx\t{','.join(g.split())}" for n, g in GENES_OF.items()), ""),
    "quotes": ("\n".join("\t".join(f'"{w}"' for w in (n, "x", *g.split())) for n, g in GENES_OF.items()), ""),
}


@pytest.mark.parametrize("case", ODD)
def test_odd_layouts_lose_no_gene_and_are_told(tmp_path, case):
    text, told = ODD[case]
    found = read_gmt(gmt(tmp_path, text + "\n"))
    assert {one.name: " ".join(one.genes) for one in found.sets} == GENES_OF
    assert told in " ".join(found.notes) and bool(found.notes) == bool(told)


def test_descriptions_that_look_like_words_stay_descriptions(tmp_path):
    found = read_gmt(gmt(tmp_path, "A\timmune\tCD19\tCD79A\nB\tblood\tLYZ\tCST3\n"))
    assert [one.note for one in found.sets] == ["immune", "blood"] and not found.notes
