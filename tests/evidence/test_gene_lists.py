"""Lists of genes: read, found, or said to be absent, and edited as measured."""

from __future__ import annotations

import json

import numpy as np
import pytest

from scx_core.circuits import make_tracer
from scx_core.cli.evidence.questions.genes import summary
from scx_core.errors import ScxError
from scx_core.evidence.knockouts.gene_lists import (
    ALIASES,
    GeneListConfig,
    edit_gene_lists,
    find_genes,
    mean_places,
    read_gene_lists,
)
from scx_core.evidence.knockouts.measured_effects import Measurer
from tests.tiny import random_set, tiny_language, tiny_table

LABEL = "Dendritic"
CFG = GeneListConfig(cells=4, draws=2)


@pytest.fixture(scope="module")
def tracer(tmp_path_factory):
    lm = tiny_language(tmp_path_factory.mktemp("model"))
    return make_tracer(lm, random_set(lm, "jumprelu", skip=True), tiny_table(40))


def _genes(tracer, n):
    """Genes that the cells hold most often, and one that the table has and no sentence holds."""
    rows = np.flatnonzero(tracer.table.labels == LABEL)
    places = mean_places(tracer, rows.tolist())
    unheld = [str(name) for name in tracer.table.symbols if str(name) not in places]
    return sorted(places, key=lambda gene: places[gene])[:n], unheld


def test_files_of_genes(tmp_path):
    plain, gmt, bad = (tmp_path / name for name in ("mine.txt", "sets.gmt", "bad.txt"))
    plain.write_text("# markers\ncd79a  # B\n\nMS4A1\nCD79A\n")
    assert read_gene_lists(plain) == {"mine": ["CD79A", "MS4A1"]}
    gmt.write_text("b\tnote\tCD79A\tMS4A1\nnk\tnote\tGNLY\tNKG7\n")
    assert {name: sorted(genes) for name, genes in read_gene_lists(gmt).items()} == {
        "b": ["CD79A", "MS4A1"],
        "nk": ["GNLY", "NKG7"],
    }
    bad.write_text("CD79A\nMS4A1 CD19\n")
    with pytest.raises(ScxError, match="Line 2 of .*bad.txt"):
        read_gene_lists(bad)
    bad.write_text("# nothing\n")
    with pytest.raises(ScxError, match="holds no gene"):
        read_gene_lists(bad)


def test_what_is_said_of_an_absent_gene(tracer):
    rows = np.flatnonzero(tracer.table.labels == LABEL)[:4]
    held, unheld = _genes(tracer, 1)
    alias = next((name for name, gene in ALIASES.items() if gene in set(tracer.table.symbols)), None)
    asked = [held[0].lower(), "NOSUCHGENE", *unheld[:1], *([alias] if alias else [])]
    first, missing, *rest = find_genes(tracer, asked, rows)
    assert first.found == held[0] and first.held > 0
    assert missing.found is None and missing.words == "not in the file"
    if unheld:
        assert rest[0].words == "in the file and in the sentence of 0 of 4 cells"
    if alias:
        assert rest[-1].words.startswith(f"another name of {ALIASES[alias]}")


def test_edits_can_be_measured_again(tracer):
    genes, _ = _genes(tracer, 3)
    found = edit_gene_lists(tracer, LABEL, {"mine": [*genes, "NOSUCHGENE"]}, cfg=CFG)
    measurer = Measurer(tracer, tracer.plan(LABEL))
    for edit, way in zip(found.edits, ("text", "front"), strict=True):
        odds = np.array([measurer.together(row, [genes, genes[:1]], way)[0].log_odds for row in found.rows])
        assert edit.effect.mean == pytest.approx((odds[:, 1] - odds[:, 0]).mean())
        assert edit.alone[0].effect.mean == pytest.approx((odds[:, 2] - odds[:, 0]).mean())
        assert edit.ahead.mean == pytest.approx(edit.effect.mean - edit.random.mean)
        assert edit.random_least <= edit.random.mean <= edit.random_most
        assert 0 < edit.p <= edit.q <= 1
    assert dict(found.absent)["NOSUCHGENE"].startswith("not in the file")
    data = json.loads(json.dumps(found.to_json()))
    text = summary(data)
    assert "NOSUCHGENE: not in the file" in text and "mine: over-expression" in text


def test_a_list_without_a_known_gene_is_refused(tracer):
    with pytest.raises(ScxError, match="has none of these genes: NOSUCHGENE is not in the file[.;]"):
        edit_gene_lists(tracer, LABEL, {"mine": ["NOSUCHGENE"]}, cfg=CFG)
