"""Circuits whose genes carry measured knock-outs: means over the cells that hold a gene, and who leads."""

from __future__ import annotations

import json

import numpy as np
import pytest

from scx_core.circuits import Circuit, ConsensusConfig
from scx_core.circuits.circuit import MeasuredMean
from scx_core.cli.evidence.knockouts import summary
from scx_core.errors import ScxError
from scx_core.evidence import knock_out_all, with_knockouts
from scx_core.evidence.knockouts.gene_tables import over_cells, plan_of
from scx_core.figures import gene_table
from scx_core.figures.bars import genes_figure
from scx_core.figures.table import leading
from scx_core.statistics.resampling import one_group
from tests.evidence.test_knockouts import tiny_tracer
from tests.tiny import LABELS


@pytest.fixture(scope="module")
def traced(tmp_path_factory):
    tracer = tiny_tracer(tmp_path_factory.mktemp("model"))
    circuit = tracer.consensus(LABELS[0], answer=LABELS[0], cfg=ConsensusConfig(cells=4))
    return tracer, circuit, with_knockouts(tracer, circuit, estimate=True)


def test_means_are_over_the_cells_that_hold_the_gene(traced):
    tracer, circuit, found = traced
    rows = found.provenance["knockouts"]["cells"]
    cells = knock_out_all(tracer, rows, plan_of(tracer, circuit))
    assert [gene.effect for gene in found.genes] == [gene.effect for gene in circuit.genes]
    partly = 0
    for gene in found.genes:
        held = [one for cell in cells for one in cell.genes if one.gene == gene.gene]
        assert gene.gap.n == len(held) == gene.n_cells
        partly += len(held) < len(cells)
        for way in ("gap", "text", "gap_log_odds", "text_log_odds"):
            values = [getattr(one, way) for one in held]
            mean, low, high, *_ = getattr(gene, way)
            every = gene.per_cell(way)
            assert every.mean == pytest.approx(sum(values) / len(cells), abs=1e-9) and every.n == len(held)
            assert every.low - 1e-9 <= every.mean <= every.high + 1e-9
            assert mean == pytest.approx(np.mean(values), abs=1e-9)
            assert (low is None) == (high is None)
            if low is not None:
                assert low <= mean + 1e-9 and mean - 1e-9 <= high
    assert partly  # some genes are absent from some cells, and no zero is counted for them


def test_the_command_ranks_by_the_mean_over_all_cells_it_read(traced):
    def gene(name, mean, over_all, n):
        found = {"mean": mean, "low": None, "high": None, "n": n, "over_all": over_all}
        found |= {"over_all_low": over_all - 0.1, "over_all_high": over_all + 0.1}
        ways = ("gap", "text", "gap_log_odds", "text_log_odds")
        return {"gene": name, "n_cells": n, "rank": 3.0} | dict.fromkeys(ways, found)

    genes = [gene("IGJ", 0.76, 0.41, 16), gene("ONE", 60.0, 2.0, 1), gene("FTL", 0.60, 0.56, 28)]
    result = {"target": "B", "kind": "answer", "n_cells": 30, "genes": genes}
    words = summary(result | {"cells": [{"row": row} for row in range(30)]})
    places = [words.index(name) for name in ("FTL", "IGJ", "ONE")]
    assert places == sorted(places) and "0.56 [0.46, 0.66]" in words and "0.76" not in words
    assert "fewer than 3 cells hold stand last" in words


def test_genes_of_many_cells_are_ranked_so_too(traced):
    tracer, circuit, found = traced
    rows = found.provenance["knockouts"]["cells"]
    genes = over_cells(knock_out_all(tracer, rows, plan_of(tracer, circuit)), one_group(len(rows), 0))
    enough = [gene for gene in genes if gene.n_cells >= 3]
    assert genes[: len(enough)] == enough != genes
    values = [gene.gap.over_all for gene in enough]
    assert values == sorted(values, reverse=True)


def test_the_record_is_read_back_as_it_was(traced):
    _, _, found = traced
    assert Circuit.from_json(json.loads(json.dumps(found.to_json()))) == found


def test_what_was_measured_leads_table_and_chart(traced):
    _, circuit, found = traced
    assert (leading(circuit), leading(found)) == ("frozen", "gap")
    table = gene_table(found)
    assert list(table.columns[:5]) == [
        "gene",
        "knockout_gap",
        "knockout_gap_low",
        "knockout_gap_high",
        "knockout_gap_n",
    ]
    enough = table[table["knockout_gap_n"] >= 3]
    assert enough["knockout_gap"].abs().is_monotonic_decreasing and len(enough)
    assert (table["knockout_gap_n"].iloc[: len(enough)] >= 3).all(), "what one cell holds leads no ranking"
    whole = table["knockout_gap_holders"] * table["share_of_cells"]
    assert table["knockout_gap"].to_numpy() == pytest.approx(whole.to_numpy(), abs=1e-9)
    assert (table["knockout_gap_n"] < found.n_cells).any(), "or the two denominators are one"
    assert not [name for name in gene_table(circuit) if "knockout" in name]
    texts = [text.get_text() for text in genes_figure(found).axes[0].texts]
    assert any("lost without the gene" in text for text in texts)
    assert any("diamond: frozen attribution" in text for text in texts)
    texts = [text.get_text() for text in genes_figure(circuit).axes[0].texts]
    assert any("frozen attribution" in text for text in texts) and not any("lost" in text for text in texts)


def test_a_difference_is_measured_by_its_sides(traced):
    tracer, circuit, _ = traced
    with pytest.raises(ScxError, match="of a cell or of a type"):
        with_knockouts(tracer, circuit._replace(scope="difference"))


def test_a_gene_without_a_value_stands_last(traced):
    _, circuit, _ = traced
    first, *rest = circuit.genes
    genes = (first, *(gene._replace(gap=MeasuredMean(0.1, 0.0, 0.2, 3)) for gene in rest))
    assert gene_table(circuit._replace(genes=genes))["gene"].iloc[-1] == first.gene
