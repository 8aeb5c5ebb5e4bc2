"""A bare string where a list of names is wanted is one name, in every function of the notebook's face."""

from __future__ import annotations

import importlib
import inspect
import re

import pytest

import scx_core as scx
from scx_core.cells.choices import as_names
from scx_core.errors import ScxError
from tests.builders.small_anndata import two_types

LISTS = re.compile(
    r"\b(?:Sequence|Iterable|list)\[(?:str|Transcoders)\]|tuple\[(?:str, str|Model, Transcoders)\]"
)
TYPE = "CD19+ B"
# Each is asked with a name that does not exist: what is said names it whole.
ASKED = {
    ("tl", "trace_cell", "against"): lambda t, name: scx.tl.trace_cell(t, 0, against=name),
    ("tl", "consensus", "against"): lambda t, name: scx.tl.consensus(t, TYPE, n_cells=2, against=name),
    ("tl", "knock_out", "genes"): lambda t, name: scx.tl.knock_out(t, TYPE, n_cells=2, genes=name),
    ("tl", "edit_genes", "genes"): lambda t, name: scx.tl.edit_genes(t, TYPE, {"mine": name}, n_cells=2),
    ("tl", "stability", "prompts"): lambda t, name: scx.tl.stability(
        t, TYPE, n_cells=4, prompts=name, features=False, splits=1, ties=0, resamples=20, draws=20
    ),
    ("tl", "stability", "other_transcoders"): lambda t, name: scx.tl.stability(
        t, TYPE, n_cells=4, other_transcoders=name
    ),
    ("tl", "stability", "other_models"): lambda t, name: scx.tl.stability(
        t, TYPE, n_cells=4, other_models=(name, name)
    ),
    ("tl", "compare_rivals", "cell_types"): scx.tl.compare_rivals,
    ("tl", "null_rates", "cell_types"): scx.tl.null_rates,
    ("tl", "share", "cell_types"): lambda t, name: scx.tl.share(t, "share.html", cell_types=name),
    ("pl", "save", "formats"): lambda t, name: scx.pl.save(scx.tl.trace_cell(t, 0, nodes=8), ".", name),
}


@pytest.fixture(scope="module")
def tracer():
    return scx.tl.tracer(two_types())


@pytest.mark.parametrize("key", ASKED, ids=".".join)
def test_a_bare_string_is_one_name(tracer, key, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SCX_RUNS", str(tmp_path / "runs"))
    with pytest.raises(ScxError, match=r"(?i)qzxw"):
        ASKED[key](tracer, "QZXW")


def test_every_list_of_names_is_asked():
    wanted = set()
    for module in ("pp", "tl", "pl"):
        home = importlib.import_module(f"scx_core.{module}")
        for name in home.__all__:
            if inspect.isfunction(function := getattr(home, name)):
                wanted |= {
                    (module, name, one.name)
                    for one in inspect.signature(function).parameters.values()
                    if LISTS.search(str(one.annotation))
                }
    assert wanted == set(ASKED)


def test_a_bare_gene_is_knocked_out(tracer):
    gene = scx.pp.cell_sentences(two_types(), [0], n_genes=1).iloc[0]
    assert list(scx.tl.knock_out(tracer, TYPE, genes=gene, n_cells=4).index) == [gene]


def test_names_stay_what_they_are():
    assert as_names("CD74") == ["CD74"] and as_names(["CD74", "MS4A1"]) == ["CD74", "MS4A1"]
    assert as_names(None) is None and as_names(()) == []
