"""Measured biology: planted perturbations, edges and conditions are found, and chance is not."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from scx_core.build.control_cells import control_model, control_recipe
from scx_core.build.recipe import training_batch
from scx_core.cells import CellChoices, open_cells
from scx_core.circuits import make_tracer
from scx_core.errors import ScxError
from scx_core.evidence.biology.agreement import COEXPRESSION, IN_SILICO, perturbations
from scx_core.evidence.biology.condition_tables import condition_tables
from scx_core.evidence.biology.conditions import (
    FEATURES,
    HEIGHT,
    T_TEST,
    ConditionConfig,
    conditions,
)
from scx_core.evidence.biology.network import (
    DIRECT,
    SHARED,
    NetworkConfig,
    Relation,
    Slots,
    enrichment,
    fold_interval,
    read_edges,
    relations,
    rewired,
    rewired_edges,
    strongest_pairs,
)
from scx_core.evidence.biology.perturbation_tables import perturbation_tables
from scx_core.evidence.biology.perturbations import PerturbationConfig, measured_changes, open_screen
from scx_core.sentences import SentenceConfig
from scx_core.statistics.intervals import Interval
from tests.tiny import random_set, tiny_language

DATA = Path(os.environ.get("SCX_TEST_DATA") or Path(__file__).parents[3] / "shared" / "data")
SCREEN = DATA / "perturb" / "schraivogel2020_tapseq_crispri_k562.h5ad"
MODULES = [
    ["CD3D", "CD3E", "IL7R", "LTB"],
    ["CD19", "MS4A1", "CD79A", "CD79B"],
    ["LYZ", "CST3", "FCN1", "CD14"],
]
MODULES += [
    ["NKG7", "GNLY", "PRF1", "GZMB"],
    ["PPBP", "PF4", "GNG11", "TUBB1"],
    ["VWF", "PECAM1", "CDH5", "KDR"],
]
MODULES += [["HBB", "HBA1", "HBA2", "ALAS2"], ["FOXP3", "CTLA4", "IL2RA", "TIGIT"]]
HOUSE = ["ACTB", "GAPDH", "B2M", "MALAT1"]
SMALL = PerturbationConfig(cells=20, places=2, read_in=4, shuffles=500)


def planted_screen(wrong: int = 0) -> ad.AnnData:
    """Modules of four genes that are on or off together in control cells; a target, the first gene of one,
    takes its module away (with `wrong`: another one)."""
    rng = np.random.default_rng(0)
    genes = [gene for module in MODULES for gene in module] + HOUSE
    label = ["control"] * 400 + [module[0] for module in MODULES for _ in range(40)]
    on_CM = rng.random((len(label), len(MODULES))) < 0.5
    counts = rng.poisson(6.0, (len(label), len(genes))) + 2
    for m, module in enumerate(MODULES):
        hit = (m + wrong) % len(MODULES)
        own = np.array(label) == module[0]
        on_CM[own, hit] = rng.random(own.sum()) < 0.1
    for m in range(len(MODULES)):
        counts[:, 4 * m : 4 * m + 4] *= on_CM[:, [m]]
    if wrong:  # the target itself goes all the same
        for m, module in enumerate(MODULES):
            counts[np.array(label) == module[0], 4 * m] = 0
    obs = pd.DataFrame({"target": label}, index=[f"c{k}" for k in range(len(label))])
    return ad.AnnData(counts.astype(np.float32), obs, pd.DataFrame(index=genes))


def table_of(data: ad.AnnData):
    return open_cells(data, CellChoices(label="target", donor="-"))


@pytest.fixture
def reader(tmp_path_factory, monkeypatch):
    """A model that expects the rest of a module where one of its genes has come: the planted truth."""
    lm = replace(tiny_language(tmp_path_factory.mktemp("model")), wanted=SentenceConfig(n_genes=24))
    module_of = {gene: m for m, module in enumerate(MODULES) for gene in module}

    def expects(lm, prompts, answers):
        genes = [lm.tokenizer.decode(ids).strip() for ids in answers]
        score = np.zeros((len(prompts), len(answers), 1))
        for p, ids in enumerate(prompts):
            come = {module_of.get(word) for word in lm.tokenizer.decode(ids).split()} - {None}
            score[p, :, 0] = [-3.0 + 1.5 * (module_of.get(gene) in come) for gene in genes]
        return score

    monkeypatch.setattr("scx_core.evidence.biology.perturbations.score_answers", expects)
    return lm


def test_a_planted_perturbation_is_found(reader):
    found = perturbations(reader, table_of(planted_screen()), "target", "control", SMALL)
    by = {row.predictor: row for row in found.pools[0].rows}
    assert by[IN_SILICO].mean.low > 0.1 and by[IN_SILICO].p < 0.02
    assert by[IN_SILICO].mean.mean > by[IN_SILICO].chance
    assert by[IN_SILICO].same / by[IN_SILICO].signs > 0.9 and by[IN_SILICO].signs >= 12
    assert by[COEXPRESSION].mean.mean > 0.2
    one = found.targets[0]
    assert one.left < 0.4 and one.own.high < 0
    assert one.genes[0]["q"] < 0.05
    words = perturbation_tables(found.to_json() | {"markdown": False})
    assert "is above shuffled targets" in words and one.target in words


def test_a_perturbation_of_other_genes_than_the_model_expects_is_at_chance(reader):
    found = perturbations(reader, table_of(planted_screen(wrong=1)), "target", "control", SMALL)
    own = found.pools[0].rows[0]
    assert own.predictor == IN_SILICO and own.p > 0.1 and own.mean.mean < own.chance


def test_the_reader_of_control_cells_never_reads_a_perturbed_or_held_out_one(tmp_path, monkeypatch):
    table = table_of(planted_screen())
    screen = open_screen(table, "target", "control")
    recipe = replace(control_recipe(), width=16, layers=1, heads=1, readings=32)
    read = []
    monkeypatch.setattr(
        "scx_core.build.language_training.training_batch",
        lambda table, rows, *rest: read.append(rows) or training_batch(table, rows, *rest),
    )
    lm, held_out = control_model(tmp_path / "m", table, screen, recipe)
    trained = {int(row) for rows in read for row in rows}
    assert len(read) == 2 and trained | set(held_out.tolist()) == set(screen.control.tolist())
    assert not trained & set(held_out.tolist()) and len(held_out) == 80
    again, same = control_model(tmp_path / "m", table, screen, recipe)
    assert len(read) == 2 and np.array_equal(same, held_out) and again.fingerprint == lm.fingerprint
    with pytest.raises(ScxError, match="a model of other cells"):
        control_model(tmp_path / "m", table, screen._replace(control_label="other"), recipe)


def test_a_screen_says_what_is_wrong_with_column_and_label():
    table = table_of(planted_screen())
    with pytest.raises(ScxError, match="no column 'tragets' of targets"):
        open_screen(table, "tragets", "control")
    with pytest.raises(ScxError, match="no cells of the control label 'NT'"):
        open_screen(table, "target", "NT")


def test_targets_that_are_no_gene_are_said_to_be_unreadable(reader):
    data = planted_screen()
    data.obs["target"] = data.obs["target"].astype(str).replace({"LYZ": "ENHANCER"})
    found = perturbations(reader, table_of(data), "target", "control", SMALL)
    one = next(one for one in found.targets if one.target == "ENHANCER")
    assert not one.readable and "no gene of the panel" in one.weak[0]
    assert "ENHANCER" not in found.pools[0].targets


@pytest.mark.skipif(not SCREEN.exists(), reason=f"{SCREEN.name} is not here (see SCX_TEST_DATA)")
def test_knock_downs_of_a_real_screen_are_measured():
    table = open_cells(SCREEN, CellChoices(label="target"))
    screen = open_screen(table, "target", "non-targeting")
    found = measured_changes(table, screen, PerturbationConfig())
    left = dict(zip(found.targets, found.left_T.tolist(), strict=True))
    assert left["CPQ"] < 0.2 and left["FAM83A"] < 0.2 and left["MYC"] > 0.5
    assert np.isnan(left["HS2"])  # an enhancer
    assert found.n_control == 7760


def random_edges(rng, n: int = 300, genes: int = 40) -> np.ndarray:
    pairs = {(int(a), int(b)) for a, b in rng.integers(0, genes, (n, 2)) if a != b}
    return np.array(sorted(pairs))


def test_rewired_edges_keep_degrees_and_make_no_loops_or_doubles():
    rng = np.random.default_rng(0)
    edges = random_edges(rng)
    found = rewired_edges(edges, rng)
    for side in (0, 1):
        assert np.array_equal(np.bincount(found[:, side]), np.bincount(edges[:, side]))
    assert (found[:, 0] != found[:, 1]).all()
    assert len({tuple(one) for one in found.tolist()}) == len(edges)
    assert len({tuple(one) for one in found.tolist()} & {tuple(one) for one in edges.tolist()}) < 0.6 * len(
        edges
    )


def test_a_rewired_graph_keeps_the_degrees_of_features_and_genes():
    rng = np.random.default_rng(0)
    held = sorted(
        {(int(f), int(g)) for f, g in zip(rng.integers(0, 60, 400), rng.zipf(1.5, 400) % 50, strict=True)}
    )
    slots = Slots(np.array(held)[:, 0], np.array(held)[:, 1], rng.random(len(held)))
    found = rewired(slots, rng)
    assert np.array_equal(found.feature_S, slots.feature_S) and np.array_equal(found.weight_S, slots.weight_S)
    assert np.array_equal(np.bincount(found.gene_S), np.bincount(slots.gene_S))
    pairs = set(zip(found.feature_S.tolist(), found.gene_S.tolist(), strict=True))
    assert len(pairs) == len(held) and pairs != set(held)


def related(edges: np.ndarray, name: str, rng, k: int = 200) -> Relation:
    nulls, one = [], edges
    for _ in range(k):
        one = rewired_edges(one, rng)
        nulls.append(one)
    return Relation(name, edges, np.stack(nulls), 40)


def test_planted_edges_are_found_and_random_pairs_are_not():
    rng = np.random.default_rng(1)
    edges = random_edges(rng, 150)
    genes = [f"G{g}" for g in range(40)]
    planted, random = np.zeros((40, 40)), rng.random((40, 40))
    for a, b in edges[:60].tolist():
        planted[a, b] = planted[b, a] = 2.0
    relation = related(edges, DIRECT, rng)
    one = enrichment("features", strongest_pairs(planted + planted.T, 60, rng), 60, relation, genes)
    assert one.hits >= one.pairs and one.p < 0.01 and one.low > 1.5
    chance = enrichment("features", strongest_pairs(random + random.T, 200, rng), 200, relation, genes)
    assert chance.p > 0.05 and chance.low < 1 < chance.high
    assert one.found[0][0].startswith("G")


def test_the_interval_of_a_fold_is_as_wide_as_so_few_hits_leave_it():
    assert fold_interval(0, 2.0, Interval(0.0, 0.0)).high == pytest.approx(3.689 / 2, rel=1e-3)
    one = fold_interval(1, 0.5, Interval(2.0, 2.0))
    assert one.low == pytest.approx(0.0253 / 0.5, rel=1e-2) and one.high == pytest.approx(
        5.572 / 0.5, rel=1e-3
    )
    assert fold_interval(100, 50.0, Interval(0.5, 9.0)) == Interval(0.5, 9.0)


def test_genes_of_one_factor_count_once_a_factor():
    edges = np.array([[7, 0], [7, 1], [7, 2], [8, 0], [8, 1], [9, 5]])
    joined = np.zeros((6, 6), dtype=bool)
    joined[0, 1] = joined[1, 0] = joined[2, 5] = joined[5, 2] = True
    found = Relation(SHARED, edges, edges[None], 10).hits(joined, edges)
    assert found.tolist() == [0] * 7 + [1, 1, 0]


def test_edges_are_read_once_without_loops(tmp_path):
    path = tmp_path / "net.tsv"
    path.write_text("stat1\tIrf1\tActivation\nSTAT1\tIRF1\tUnknown\nMYC\tMYC\tRepression\nMYC\tTERT\n")
    edges = read_edges(path)
    assert edges == [("STAT1", "IRF1"), ("MYC", "TERT")]
    found = relations([*edges, ("STAT1", "TERT")], ["IRF1", "TERT", "MYC"], NetworkConfig(rewirings=20))
    assert [len(one.edge_E2) for one in found] == [3]  # one direct edge cannot be rewired
    path.write_text("STAT1\n")
    with pytest.raises(ScxError, match="line 1 of net.tsv has one column"):
        read_edges(path)
    with pytest.raises(ScxError, match="no numbers of pairs"):
        _ = NetworkConfig(pairs="many").numbers


RAISED = ("ISG15", "IFI6", "MX1", "IFIT1")


@pytest.fixture(scope="module")
def treated(tmp_path_factory):
    """Two types of 24 cells, half of each treated; the treated hold four genes that the others hardly do."""
    rng = np.random.default_rng(2)
    genes = [gene for module in MODULES[:3] for gene in module] + HOUSE + list(RAISED)
    counts = rng.poisson(3.0, (48, len(genes)))
    label = np.array(["CD19+ B", "CD14+ Monocyte"] * 24)
    condition = np.repeat(["control", "treated"], 24)
    at = slice(len(genes) - 4, None)
    counts[:, at] = np.where(
        (condition == "treated")[:, None], rng.poisson(9.0, (48, 4)), rng.poisson(0.3, (48, 4))
    )
    donor = np.tile(np.repeat(["d1", "d2", "d3", "d4"], 6), 2)
    obs = pd.DataFrame({"cell_type": label, "condition": condition, "donor": donor})
    obs.index = [f"c{k}" for k in range(48)]
    data = ad.AnnData(counts.astype(np.float32), obs, pd.DataFrame(index=genes))
    lm = tiny_language(tmp_path_factory.mktemp("model"))
    table = open_cells(data, CellChoices(label="cell_type", donor="donor"))
    return make_tracer(lm, random_set(lm, "jumprelu", skip=True), table)


def test_a_planted_condition_is_told_by_its_genes_and_halves_are_not(treated):
    cfg = ConditionConfig(first=4, splits=4, features=3)
    found = conditions(
        treated,
        "CD14+ Monocyte",
        *("condition", "control", "treated"),
        ("interferon", RAISED),
        named=["MX1", "NOTHING"],
        cfg=cfg,
    )
    by = {one.ranking: one for one in found.known}
    assert found.n == (12, 12) and set(found.in_set) == set(RAISED)
    assert by[T_TEST].auroc.mean > 0.95 and by[T_TEST].hits == 4
    assert by[HEIGHT].auroc.mean > 0.95
    assert by[T_TEST].null_mean < 0.85 < by[T_TEST].auroc.mean
    told = {one.kind: one for one in found.told}
    assert told[T_TEST].cells >= 4 and told[T_TEST].null.to_json()["mean"] <= 1
    assert told[FEATURES].donors is not None
    assert found.genes[0].places[T_TEST] <= 4 and found.genes[1].places is None
    assert "interferon: 4 of its 4 genes" in condition_tables(found.to_json())


def test_conditions_that_are_not_there_are_named(treated):
    asked = ("CD14+ Monocyte", "condition", "control", "treated")
    for k, wrong, words in (
        (1, "state", "no column 'state'"),
        (2, "none", "no value 'none'"),
        (0, "X", "type 'X'"),
    ):
        named = [wrong if k == j else value for j, value in enumerate(asked)]
        with pytest.raises(ScxError, match=words):
            conditions(treated, *named, ("interferon", RAISED))
