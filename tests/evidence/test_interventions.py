"""Interventions against a naive forward pass of their own: one cell, no padding, where() on all features."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from scx_core.attribution.target import plan_target
from scx_core.errors import ScxError
from scx_core.evidence.ablation_reference import InterventionConfig, places_of, reference_of
from scx_core.evidence.interventions import NO_NODES, Intervention
from scx_core.language import replaced_mlps
from tests.tiny import LABELS, random_set, tiny_cells, tiny_language, tiny_table

KINDS = [(True, "relu", True), (False, "jumprelu", False), (True, "topk", False), (False, "topk", True)]


class Made:
    """A random model with its set, three cells of different lengths and four reference cells."""

    def __init__(
        self, folder, parallel=True, kind="jumprelu", skip=True, family="gpt_neox", **options
    ) -> None:
        self.lm = tiny_language(folder, parallel=parallel, family=family, layers=3)
        self.coders = random_set(self.lm, kind, skip).to(self.lm.device, self.lm.dtype)
        cells = tiny_cells(self.lm, tiny_table(7))
        self.cells, self.others = cells[:3], cells[3:]
        self.plan = plan_target(self.lm, LABELS, "CD4+/CD25 T Reg", lead=" ", kind="contrast")
        self.cfg = InterventionConfig(rows=2, **options)
        five = (self.lm, self.coders, self.plan)
        self.reference = reference_of(*five, self.others, self.cfg)
        self.tried = Intervention(*five, self.cells, self.reference, self.cfg)

    def inputs(self, cell):
        """MLP inputs of one prompt as the reference and the errors are defined, and the MLP outputs."""
        seen = {}
        handles = [
            self.lm.part(k, "mlp").register_forward_hook(
                lambda _m, a, y, k=k: seen.update({k: (a[0][0].clone(), y[0].clone())}), prepend=True
            )
            for k in range(3)
        ]
        stand_ins = {} if self.cfg.keep_errors else self.coders.stand_ins()
        with torch.no_grad(), replaced_mlps(self.lm, stand_ins):
            self.lm.model(torch.tensor([self.plan.prompt_ids(cell)]))
        for handle in handles:
            handle.remove()
        return [seen[k] for k in range(3)]

    def naive(self, cell, gate_LTF) -> float:
        """The target with gates at any value, every feature encoded."""
        place_T = self.reference.places.of(cell, len(self.plan.forced))
        error = [y - coder(x) for coder, (x, y) in zip(self.coders.layers, self.inputs(cell), strict=True)]

        def stand_in(k):
            coder, mean_TF = self.coders.layers[k], self.reference.mean_LSF[k][place_T]

            def write(x_1Td):
                z_TF = mean_TF + gate_LTF[k] * (coder.encode(x_1Td[0]) - mean_TF)
                return (coder.reconstruct(x_1Td[0], z_TF) + (error[k] if self.cfg.keep_errors else 0))[None]

            return write

        with torch.no_grad(), replaced_mlps(self.lm, {k: stand_in(k) for k in range(3)}):
            logits_V = self.lm.model(torch.tensor([self.plan.prompt_ids(cell)])).logits[0, -1]
        return sum(w * float(logits_V[t]) for t, w in self.plan.coefficients.items())

    def gates(self, cell, nodes, level=0.0):
        gate_LTF = torch.full((3, len(self.plan.prompt_ids(cell)), self.coders.n_features), level)
        for layer, *position, feature in nodes:
            gate_LTF[layer, position or slice(None), feature] = 1.0
        return gate_LTF.double()


def some_nodes(made, n, seed, length=None):
    rng = np.random.default_rng(seed)
    flat = rng.choice(3 * made.coders.n_features, n, replace=False)
    nodes = np.stack([flat // made.coders.n_features, flat % made.coders.n_features], 1)
    return nodes if length is None else np.insert(nodes, 1, rng.integers(0, length, n), axis=1)


@pytest.mark.parametrize(("parallel", "kind", "skip"), KINDS)
@pytest.mark.parametrize(
    "options", [{}, {"reference": "class"}, {"reference": "zero"}, {"keep_errors": True}], ids=str
)
def test_values_are_those_of_the_naive_pass(tmp_path, parallel, kind, skip, options):
    made = Made(tmp_path, parallel, kind, skip, **options)
    sets = [NO_NODES, some_nodes(made, 20, 0), some_nodes(made, 60, 1), some_nodes(made, 40, 2, length=30)]
    found_NB = made.tried.values(sets)
    for nodes, found_B in zip(sets, found_NB, strict=True):
        naive = [made.naive(cell, made.gates(cell, nodes)) for cell in made.cells]
        assert found_B == pytest.approx(naive, abs=1e-9)
    assert np.ptp(found_NB, axis=0).min() > 1e-3, "the sets differ"
    assert made.tried.empty_B == pytest.approx(found_NB[0])
    everything = [made.naive(cell, made.gates(cell, [], level=1.0)) for cell in made.cells]
    assert made.tried.full_B == pytest.approx(everything, abs=1e-9)


@pytest.mark.parametrize("family", ["gpt2", "llama", "gemma2"])
def test_other_families(tmp_path, family):
    made = Made(tmp_path, family=family)
    nodes = some_nodes(made, 50, 0)
    naive = [made.naive(cell, made.gates(cell, nodes)) for cell in made.cells]
    assert made.tried.values([nodes])[0] == pytest.approx(naive, abs=1e-6)


def test_with_errors_kept_the_full_target_is_the_models_own(tmp_path):
    made = Made(tmp_path, keep_errors=True)
    for cell, full in zip(made.cells, made.tried.full_B, strict=True):
        logits_V = made.lm.model(torch.tensor([made.plan.prompt_ids(cell)])).logits[0, -1]
        assert full == pytest.approx(sum(w * float(logits_V[t]) for t, w in made.plan.coefficients.items()))


@pytest.mark.parametrize(("parallel", "kind", "skip"), KINDS[:3])
@pytest.mark.parametrize("level", [0.0, 0.4])
def test_gains_are_derivatives_in_the_gates(tmp_path, parallel, kind, skip, level):
    made = Made(tmp_path, parallel, kind, skip)
    nodes = some_nodes(made, 30, 4)
    value_B, gain_BLF = made.tried.gains(nodes, level)
    assert value_B[1] == pytest.approx(made.naive(made.cells[1], made.gates(made.cells[1], nodes, level)))
    checked = [*nodes[:4], *some_nodes(made, 8, 5)]
    cell, step = made.cells[1], 1e-3  # attention takes its softmax in float32: a smaller step is all noise
    for layer, feature in checked:
        values = []
        for sign in (1, -1):
            gate_LTF = made.gates(cell, nodes, level)
            gate_LTF[layer, :, feature] += sign * step
            values.append(made.naive(cell, gate_LTF))
        slope = (values[0] - values[1]) / (2 * step)
        assert gain_BLF[1, layer, feature] == pytest.approx(slope, rel=2e-3, abs=2e-4)
    assert np.abs(gain_BLF).max() > 1e-3
    some = made.tried.gains(nodes, level, cells=[2, 0])
    assert some.gain_BLF == pytest.approx(gain_BLF[[2, 0]]) and some.value_B == pytest.approx(value_B[[2, 0]])


def test_gains_by_position_add_up_and_stand_where_the_tokens_are(tmp_path):
    made = Made(tmp_path)
    gain_BLTF = made.tried.gains(NO_NODES, by_position=True).gain_BLF
    assert gain_BLTF.sum(2) == pytest.approx(made.tried.gains(NO_NODES).gain_BLF)
    for gain_LTF, cell in zip(gain_BLTF, made.cells, strict=True):
        genes = gain_LTF.shape[1] - len(made.plan.prompt_ids(cell)) + cell.spans[0].start
        assert np.abs(gain_LTF[:, :genes]).max() < 1e-9, "padding; words that are the same in every cell"
        assert np.abs(gain_LTF[:, genes]).max() > 1e-6


def test_the_reference_is_the_mean_at_each_place(tmp_path):
    made = Made(tmp_path)
    places, forced = made.reference.places, len(made.plan.forced)
    z = [
        [c.encode(x) for c, (x, _) in zip(made.coders.layers, made.inputs(o), strict=True)]
        for o in made.others
    ]
    for layer in range(3):
        genes, last = [], []
        for cell, z_LTF in zip(made.others, z, strict=True):
            first, end = cell.spans[0].start, cell.spans[-1].end
            genes.append(z_LTF[layer][first:end])
            last.append(z_LTF[layer][-1])
            assert places.of(cell, forced)[0] == 1 and places.of(cell, forced)[-1] == places.n_places - 1
        mean_SF = made.reference.mean_LSF[layer]
        assert torch.allclose(mean_SF[0], torch.cat(genes).mean(0))
        assert torch.allclose(mean_SF[-1], torch.stack(last).mean(0))
    assert len({cell.spans[-1].end for cell in made.cells}) > 1, "prompts of different lengths"


def test_a_longer_frame_than_any_reference_cell_has_still_finds_a_place(tmp_path):
    made = Made(tmp_path)
    places = places_of("place", made.others, 0)
    assert places.of(made.cells[0], 3).max() == places.n_places - 1


def test_no_reference_cells_is_named(tmp_path):
    made = Made(tmp_path)
    with pytest.raises(ScxError, match="reference"):
        reference_of(made.lm, made.coders, made.plan, [], made.cfg)


def test_other_targets(tmp_path):
    made = Made(tmp_path)
    for kind in ("logit", "logprob"):
        plan = plan_target(made.lm, LABELS, "Dendritic", lead=" ", kind=kind)
        tried = Intervention(made.lm, made.coders, plan, made.cells, made.reference, made.cfg)
        made.plan = plan._replace(coefficients={})
        cell = made.cells[0]
        with torch.no_grad(), replaced_mlps(made.lm, made.coders.stand_ins()):
            logits_V = made.lm.model(torch.tensor([plan.prompt_ids(cell)])).logits[0, -1]
        centre = logits_V.mean() if kind == "logit" else logits_V.logsumexp(0)
        assert tried.full_B[0] == pytest.approx(float(logits_V[plan.token] - centre))
