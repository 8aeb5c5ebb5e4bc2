"""The two vocabularies of a data set and a model, and the mapping between them."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from scx_core.cells import open_cells
from scx_core.cells.formats.label_files import read_mapping
from scx_core.errors import ScxError
from scx_core.language import load_language
from scx_core.language.contracts import CONTRACTS
from scx_core.language.label_map import map_labels, ontology_names, propose, with_answers

PBMC3K = ["B", "CD14+ Mono", "CD8 T", "DC", "FCGR3A+ Mono", "Memory CD4 T", "NK", "Naive CD4 T", "Platelet"]


@pytest.fixture(scope="module")
def lm():
    return load_language("embedded")


def named(table, labels):
    """The first cells of a table under other names."""
    new = np.full(table.n_cells, "", dtype=object)
    new[: len(labels)] = labels
    return replace(table, labels=new)


def test_labels_of_another_data_set_find_the_models_answers(lm):
    found = {one.label: one.answer for one in propose(PBMC3K, lm.labels)}
    assert found["B"] == "CD19+ B" and found["NK"] == "CD56+ NK" and found["CD14+ Mono"] == "CD14+ Monocyte"
    assert found["Memory CD4 T"] == "CD4+/CD45RO+ Memory" and found["DC"] == "Dendritic"
    assert found["Platelet"] == "" and found["FCGR3A+ Mono"] == ""


def test_several_answers_that_fit_alike_are_none():
    (found,) = propose(["NK cells"], ["CD56+ NK", "natural killer cell"])
    assert found.answer == ""
    assert propose(["NK cell"], ["NK cells", "natural killer"])[0].answer == "NK cells"


def test_ontology_names_stand_for_usual_types():
    found = {
        one.label: one.answer for one in ontology_names([*PBMC3K, "vCM", "Endothelial cell", "cluster 7"])
    }
    assert found["CD14+ Mono"] == "classical monocyte" and found["NK"] == "natural killer cell"
    assert found["vCM"] == "regular ventricular cardiac myocyte"
    assert found["Endothelial cell"] == "endothelial cell" and found["cluster 7"] == ""


def test_a_table_gets_answers_and_keeps_its_labels(lm):
    table = named(open_cells("embedded"), PBMC3K)
    mapped = with_answers(lm, table)
    assert mapped.labels[:3].tolist() == PBMC3K[:3]
    assert (
        mapped.answers[:3].tolist() == ["CD19+ B", "CD14+ Monocyte", "CD8+ Cytotoxic T"]
        or mapped.answers[2] == ""
    )
    assert mapped.answers[8] == "" and mapped.answers[len(PBMC3K)] == ""
    given = with_answers(lm, table, {"Platelet": "CD34+"})
    assert given.answers[8] == "CD34+"
    own = with_answers(lm, open_cells("embedded"))
    assert (own.answers == own.labels).all()


def test_a_wrong_mapping_is_refused(lm):
    table = named(open_cells("embedded"), PBMC3K)
    with pytest.raises(ScxError, match="no type 'Neuron'"):
        map_labels(lm, table, {"Neuron": "CD34+"})
    with pytest.raises(ScxError, match="no answer 'Neuron'"):
        map_labels(lm, table, {"Platelet": "Neuron"})


def test_a_checkpoint_without_labels_speaks_the_ontology(lm):
    table = named(open_cells("embedded"), PBMC3K)
    other = replace(lm, settings={}, contract=CONTRACTS[0])
    found = {one.label: one.answer for one in map_labels(other, table)}
    assert found["B"] == "B cell" and found["Memory CD4 T"] == "CD4-positive, alpha-beta memory T cell"


def test_mappings_are_read_from_files(tmp_path):
    (tmp_path / "map.json").write_text(json.dumps({"B": "B cell"}))
    (tmp_path / "map.csv").write_text('label,answer\nB,B cell\nT,"CD4-positive, alpha-beta T cell"\n')
    assert read_mapping(tmp_path / "map.json") == {"B": "B cell"}
    assert read_mapping(tmp_path / "map.csv")["T"] == "CD4-positive, alpha-beta T cell"
    for name, text in (
        ("a.csv", "B\n"),
        ("b.csv", "B,x\nB,y\n"),
        ("c.json", "[1]"),
        ("d.json", "{"),
        ("e.csv", ""),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(ScxError):
            read_mapping(tmp_path / name)
