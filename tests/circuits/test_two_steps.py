"""A consensus in two steps: what equals one step does, and one that was stopped goes on where it was."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch

from scx_core.attribution import local_replacement_model
from scx_core.circuits.consensus import ConsensusConfig
from scx_core.circuits.difference import compare_types
from scx_core.circuits.many_cells import two_steps
from scx_core.circuits.many_cells.kept_cells import FOLDER, merged_record, read_effects, read_merged
from scx_core.circuits.many_cells.two_steps import is_large
from scx_core.circuits.schema import Misfit
from scx_core.language import patterns
from scx_core.runs.files import to_json_text
from tests.builders.damage import check_every_damage
from tests.tiny import LABELS

ONE = ConsensusConfig(cells=4, nodes=40, min_share=0.5, method="circuits")
TWO = dataclasses.replace(ONE, method="two-steps")


@pytest.fixture(autouse=True)
def _runs(tmp_path, monkeypatch):
    monkeypatch.setenv("SCX_RUNS", str(tmp_path))


@pytest.fixture
def label(tracer):
    return next(name for name in LABELS if (tracer.table.labels == name).sum() >= 4)


def _numbers(circuit) -> str:
    """Everything but what names the way."""
    record = circuit.to_json()
    record.pop("provenance")
    return to_json_text(record)


def test_where_every_feature_counts_as_shared_both_ways_are_one(tracer, label):
    one, two = (tracer.consensus(label, cfg=dataclasses.replace(cfg, min_share=0.0)) for cfg in (ONE, TWO))
    assert [node.id for node in one.nodes] == [node.id for node in two.nodes]
    assert [gene.gene for gene in one.genes] == [gene.gene for gene in two.genes]
    np.testing.assert_allclose(
        [e.weight for e in two.edges], [e.weight for e in one.edges], rtol=1e-4, atol=1e-6
    )
    np.testing.assert_allclose([n.influence for n in two.nodes], [n.influence for n in one.nodes], rtol=1e-4)


def test_genes_and_edges_between_shared_features_are_those_of_one_step(tracer, label):
    one, two = (tracer.consensus(label, cfg=cfg) for cfg in (ONE, TWO))
    effects = {gene.gene: gene.effect for gene in one.genes}
    assert {gene.gene for gene in two.genes} == set(effects)
    for gene in two.genes:
        assert gene.effect == pytest.approx(effects[gene.gene], rel=1e-4, abs=1e-6)
    assert two.accounting["max_relative_error"] < 1e-4
    rows, plan = tracer.draw(label, ONE), tracer.plan(label)
    whole = tracer.merged(rows, plan, cfg=ONE)
    kept = two_steps.KeptCells({"only": "here"})
    some = two_steps.TwoSteps(tracer, rows, plan, two_steps.TraceConfig(), TWO, kept).run()
    compared = 0
    for ours, theirs in zip(some, whole, strict=True):
        at = {name: i for i, name in enumerate(theirs.nodes)}
        for s, source in enumerate(ours.nodes):
            for t, target in enumerate(ours.nodes):
                pairs = "f" == source[0] == target[0] and source in at and target in at
                both = pairs and ours.edge_MM[t, s] and theirs.edge_MM[at[target], at[source]]
                if both and _positions_agree(ours, theirs, source, target):
                    weight = theirs.weight_MM[at[target], at[source]]
                    assert ours.weight_MM[t, s] == pytest.approx(weight, rel=1e-3, abs=1e-6)
                    compared += 1
    assert compared > 3


def _positions_agree(ours, theirs, *names) -> bool:
    """Whether both hold the same of these features' positions, by their summed activations."""
    for name in names:
        values = [merged.value_M3[list(merged.nodes).index(name), 0] for merged in (ours, theirs)]
        if values[0] != pytest.approx(values[1], rel=1e-5):
            return False
    return True


@pytest.mark.parametrize("stopped_after", [2, 6])
def test_a_stopped_consensus_goes_on_and_gives_the_same(tracer, label, monkeypatch, tmp_path, stopped_after):
    whole = _numbers(tracer.consensus(label, cfg=TWO))
    monkeypatch.setenv("SCX_RUNS", str(tmp_path / "again"))

    def stop(done, total, message=""):
        if done == stopped_after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tracer.consensus(label, cfg=TWO, progress=stop)
    made = []
    ask = two_steps.frozen_for
    monkeypatch.setattr(two_steps, "frozen_for", lambda *parts: made.append(parts) or ask(*parts))
    told, known = [], []
    again = tracer.consensus(
        label, cfg=TWO, progress=lambda done, total, text="": told.append(text), partial=known.append
    )
    assert _numbers(again) == whole
    assert len(made) == 8 - stopped_after
    assert "left" in told[-1] and "edges, cell 4 of 4" in told[-1]
    assert known[0].genes and len(known[-1].merged) == 4


def test_a_merged_circuit_reads_back_to_the_same_bits(tracer, label):
    (cell,) = tracer.merged(tracer.draw(label, ONE)[:1], tracer.plan(label), cfg=ONE)
    back = read_merged(merged_record(cell))
    assert to_json_text(merged_record(back)) == to_json_text(merged_record(cell))
    assert back.nodes == cell.nodes and (back.weight_MM == np.where(cell.edge_MM, cell.weight_MM, 0)).all()


def test_what_was_kept_is_read_as_it_was_or_refused(tracer, label, tmp_path):
    """Both steps of one cell, as they lie on disk, damaged at every place in every way."""
    tracer.consensus(label, cfg=dataclasses.replace(TWO, nodes=6))
    effects, merged = (
        json.loads(sorted((tmp_path / FOLDER).rglob(f"{step}-*.json"))[0].read_bytes())
        for step in ("effects", "edges")
    )
    assert check_every_damage(effects, read_effects, lambda back: back._asdict(), Misfit) > 50
    assert check_every_damage(merged, read_merged, merged_record, Misfit) > 500


@pytest.mark.parametrize("content", ["[]", "{", "3", '{"genes": {}}', "[" * 100_000])
@pytest.mark.parametrize("step", ["effects", "edges"])
def test_a_damaged_cell_is_made_again(tracer, label, tmp_path, step, content):
    whole = _numbers(tracer.consensus(label, cfg=TWO))
    path = sorted((tmp_path / FOLDER).rglob(f"{step}-*.json"))[-1]
    right = path.read_bytes()
    path.write_text(content)
    assert _numbers(tracer.consensus(label, cfg=TWO)) == whole
    assert path.read_bytes() == right


def test_a_cell_of_other_scores_is_made_again(tracer, label, tmp_path):
    whole = _numbers(tracer.consensus(label, cfg=TWO))
    path = sorted((tmp_path / FOLDER).rglob("edges-*.json"))[-1]
    record = json.loads(path.read_bytes())
    del record["scores"]["faint"]
    path.write_text(json.dumps(record))
    assert _numbers(tracer.consensus(label, cfg=TWO)) == whole


@pytest.mark.parametrize("cfg", [ONE, TWO], ids=lambda cfg: cfg.method)
def test_how_long_prompts_were_read_is_said_in_the_provenance(tracer, label, monkeypatch, tmp_path, cfg):
    """Of every cell, of some, and of none; also where the cells are read back from what was kept."""
    held = "attention_patterns"
    assert held not in tracer.consensus(label, cfg=cfg).provenance
    rows, plan = tracer.draw(label, cfg), tracer.plan(label)
    lengths = sorted(len(plan.prompt_ids(cell)) for cell in tracer.encode(rows))
    numbers = tracer.lm.facts.n_layers * tracer.lm.facts.n_heads
    monkeypatch.setattr(local_replacement_model, "MOST_PROMPTS", 1)  # prompts of one batch are held alike
    for limit in (0, numbers * lengths[0] ** 2):
        monkeypatch.setenv("SCX_RUNS", str(tmp_path / str(limit)))
        monkeypatch.setattr(patterns, "KEPT_NUMBERS", limit)
        n = sum(numbers * length**2 > limit for length in lengths)
        said = patterns.BY_LAYER if n == len(rows) else f"{patterns.BY_LAYER} in {n} of {len(rows)} cells"
        found = [tracer.consensus(label, cfg=cfg).provenance for _ in range(2)]
        assert [one.get(held) for one in found] == [said if n else None] * 2


def test_two_steps_are_asked_for_or_the_model_is_large(tracer):
    assert not tracer.in_two_steps(ConsensusConfig()) and tracer.in_two_steps(TWO)
    assert is_large(24, 1024) and not is_large(4, 128)


def test_two_types_are_compared_in_two_steps(tracer, label):
    """Where every feature counts as shared, the difference is that of whole circuits; and what one side
    shares is traced in the other."""
    other = next(name for name in LABELS if name != label and (tracer.table.labels == name).sum() >= 4)
    of = {"min_share": 0.0, "choice": "effect"}
    one, two = (
        compare_types(tracer, label, other, cfg=dataclasses.replace(cfg, **of)).difference
        for cfg in (ONE, TWO)
    )
    assert [node.id for node in one.nodes] == [node.id for node in two.nodes]
    np.testing.assert_allclose(
        [e.weight for e in two.edges], [e.weight for e in one.edges], rtol=1e-3, atol=1e-5
    )
    traced = []
    jobs = [
        tracer.two_steps(tracer.draw(name, TWO), tracer.plan(label, [other]), cfg=TWO, beside=name)
        for name in (label, other)
    ]
    shared = [job.shared(job.effects()) for job in jobs]
    for job in jobs:
        job.edges = lambda effects, features: traced.append(features)
    two_steps.together(jobs, same_features=True)
    assert traced == [shared[0] | shared[1]] * 2 and shared[0] != shared[1]
    two_steps.together(jobs, same_features=False)
    assert traced[2:] == shared


def test_what_asks_for_many_circuits_takes_two_steps_too(tracer, label):
    said = []
    rows, plan = tracer.draw(label, TWO), tracer.plan(label)
    found = tracer.merged(rows, plan, cfg=TWO, progress=lambda *parts: said.append(parts[-1]))
    assert len(found) == len(rows) and said[0].startswith("effects") and said[-1].startswith("edges")


@pytest.mark.parametrize("stopped_after", [1, 5, 9, 14])
def test_a_stopped_comparison_of_two_types_goes_on_and_gives_the_same(
    tracer, label, monkeypatch, tmp_path, stopped_after
):
    """In either step of either side: what was made before is not made again."""
    other = next(name for name in LABELS if name != label and (tracer.table.labels == name).sum() >= 4)
    made, told = _counted(monkeypatch), []
    whole = _numbers(compare_types(tracer, label, other, cfg=TWO).difference)
    in_all = len(made)
    assert in_all == 16  # two steps of two sides of four cells
    monkeypatch.setenv("SCX_RUNS", str(tmp_path / "again"))
    made.clear()

    def stop(*_message):
        told.append(_message)
        if len(told) == stopped_after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compare_types(tracer, label, other, cfg=TWO, progress=stop)
    assert len(made) == stopped_after
    again = compare_types(tracer, label, other, cfg=TWO)
    assert _numbers(again.difference) == whole
    assert len(made) == in_all


def test_where_memory_ends_in_one_cell_of_two_types_the_others_are_kept(tracer, label, monkeypatch):
    other = next(name for name in LABELS if name != label and (tracer.table.labels == name).sum() >= 4)
    made, ask = [], two_steps.frozen_for

    def scarce(*parts):
        made.append(parts)
        if len(made) == 7:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return ask(*parts)

    monkeypatch.setattr(two_steps, "frozen_for", scarce)
    with pytest.raises(torch.OutOfMemoryError):
        compare_types(tracer, label, other, cfg=TWO)
    compare_types(tracer, label, other, cfg=TWO)
    assert len(made) == 16 + 1


def _counted(monkeypatch) -> list:
    """A list that grows by one with each cell that is traced."""
    made, ask = [], two_steps.frozen_for
    monkeypatch.setattr(two_steps, "frozen_for", lambda *parts: made.append(parts) or ask(*parts))
    return made
