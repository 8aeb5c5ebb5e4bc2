"""The laws of method §5 for every family, against an implementation apart: autograd through Hugging Face.

Random models with biases and norms away from their defaults. Every row of the tracer's table (features,
errors, tokens, bias, what was not chosen) is compared, not a sample.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
import torch
from transformers import AutoModelForCausalLM

from scx_core.attribution.replacement_model import replacement
from scx_core.attribution.target import plan_target
from scx_core.circuits.trace import trace_graph
from tests.identities.autograd import Frozen
from tests.tiny import LABELS, random_set, tiny_cells, tiny_language

NEOX, SEQUENTIAL = {"parallel": True}, {"parallel": False}
# Each family with and without a skip term; every gate with every block form.
CASES = [
    (NEOX, "relu", True),
    (NEOX, "topk", False),
    (SEQUENTIAL, "jumprelu", True),
    (SEQUENTIAL, "relu", False),
    ({"family": "gpt2"}, "topk", True),
    ({"family": "gpt2"}, "jumprelu", False),
    ({"family": "llama"}, "relu", True),
    ({"family": "llama"}, "topk", False),
    ({"family": "qwen2"}, "jumprelu", True),
    ({"family": "qwen2"}, "relu", False),
    ({"family": "qwen3"}, "topk", True),
    ({"family": "qwen3"}, "jumprelu", False),
    ({"family": "gemma2"}, "relu", True),
    ({"family": "gemma2"}, "topk", False),
    ({"family": "gemma2"}, "jumprelu", True),
]
# Accounting relative to each row; edges relative to the largest one.
ACCOUNTING = {"float64": 1e-9, "float32": 1e-4}
EDGES = {"float64": 1e-8, "float32": 1e-4}
NODES = 30


class Traced(NamedTuple):
    """A traced prompt beside the independent table: one entry a row, the target last."""

    folder: Any
    graph: Any
    other: Frozen
    rows: list
    weight_V: torch.Tensor
    dtype: str


def _name(case) -> str:
    (model, kind, skip), dtype = case
    family = model.get("family") or ("neox-parallel" if model["parallel"] else "neox-sequential")
    return f"{family}-{kind}{'-skip' if skip else ''}-{dtype}"


@pytest.fixture(
    scope="module",
    params=[(case, "float64") for case in CASES] + [(case, "float32") for case in CASES[::2]],
    ids=_name,
)
def traced(request, tmp_path_factory):
    (model, kind, skip), dtype = request.param
    folder = tmp_path_factory.mktemp("model")
    lm = tiny_language(folder, layers=3, dtype=dtype, **model)
    coders = random_set(lm, kind, skip).to(dtype=lm.dtype)
    cell, plan = tiny_cells(lm)[0], plan_target(lm, LABELS, "CD4+/CD25 T Reg", lead=" ", kind="contrast")
    graph = trace_graph(replacement(lm, coders), cell, plan, NODES)
    other = Frozen(lm.model, coders.layers, graph.frozen.ids)
    weight_V = torch.zeros_like(other.logits_V)
    for token, weight in plan.coefficients.items():
        weight_V[token] = weight
    chosen = graph.chosen
    wanted = list(
        zip(chosen.layer_C.tolist(), chosen.position_C.tolist(), chosen.feature_C.tolist(), strict=True)
    )
    return Traced(folder, graph, other, list(other.rows(wanted, weight_V)), weight_V, dtype)


def near(found: torch.Tensor, wanted: torch.Tensor, largest: float, dtype: str) -> None:
    off = float((found.double() - wanted.double()).abs().max())
    assert off <= EDGES[dtype] * largest


def test_the_independent_model_is_the_original_one(traced):
    """All sources in place, the frozen model gives the model's own logits."""
    _, logits_V = traced.other.run(traced.other.leaves)
    near(logits_V, traced.other.logits_V, float(logits_V.abs().max()), traced.dtype)


def test_the_target_is_made_of_the_models_own_logits(traced):
    """Those of the folder as anyone loads it, whatever the tracer's precision."""
    plain = AutoModelForCausalLM.from_pretrained(traced.folder, dtype=torch.float32).eval()
    with torch.no_grad():
        logits_V = plain(traced.other.ids).logits[0, -1]
    assert traced.graph.value == pytest.approx(float(traced.weight_V.float() @ logits_V), abs=2e-5)


def test_accounting(traced):
    table = traced.graph.table
    assert table.max_relative_error() <= ACCOUNTING[traced.dtype]
    values = torch.tensor([row.value for row in traced.rows], dtype=torch.float64)
    near(table.value_R, values, float(values.abs().max()), traced.dtype)


def test_every_edge(traced):
    table, chosen = traced.graph.table, traced.graph.chosen
    at = (chosen.layer_C, chosen.position_C, chosen.feature_C)
    feature_RC = torch.stack([row.z[at] for row in traced.rows])
    error_RLT = torch.stack([row.error for row in traced.rows])
    token_RT = torch.stack([row.token for row in traced.rows])
    bias_R = torch.tensor([row.bias for row in traced.rows], dtype=torch.float64)
    all_R = torch.stack([row.z.sum() for row in traced.rows])
    abs_R = torch.stack([row.z.abs().sum() for row in traced.rows])
    largest = float(feature_RC.abs().max())
    near(table.feature_RC, feature_RC, largest, traced.dtype)
    near(table.error_RLT, error_RLT, float(error_RLT.abs().max()), traced.dtype)
    near(table.token_RT, token_RT, float(token_RT.abs().max()), traced.dtype)
    near(table.bias_R, bias_R, float(bias_R.abs().max()), traced.dtype)
    near(table.rest_R, all_R - feature_RC.sum(1), float(abs_R.max()), traced.dtype)
    near(table.rest_abs_R, abs_R - feature_RC.abs().sum(1), float(abs_R.max()), traced.dtype)
    assert int((feature_RC != 0).sum()) > NODES  # there is something to compare


def test_removing_a_source_changes_every_row_by_its_edge(traced):
    graph, other = traced.graph, traced.other
    chosen = graph.chosen
    base = _values(graph, traced.weight_V, *other.run(other.leaves))
    largest = float(graph.table.feature_RC.abs().max())
    for c in range(0, NODES, 7):
        k, t, i = (int(part[c]) for part in (chosen.layer_C, chosen.position_C, chosen.feature_C))
        leaves = other.leaves._replace(z=[z_TF.clone() for z_TF in other.leaves.z])
        leaves.z[k][t, i] = 0.0
        change = base - _values(graph, traced.weight_V, *other.run(leaves))
        near(graph.table.feature_RC[:, c], change, max(largest, float(base.abs().max())), traced.dtype)
    leaves = other.leaves._replace(error=[e_Td.clone() for e_Td in other.leaves.error])
    leaves.error[1][0] = 0.0
    change = base - _values(graph, traced.weight_V, *other.run(leaves))
    near(graph.table.error_RLT[:, 1, 0], change, max(largest, float(base.abs().max())), traced.dtype)


def _values(graph, weight_V, pres, logits_V) -> torch.Tensor:
    chosen = graph.chosen
    at = zip(chosen.layer_C, chosen.position_C, chosen.feature_C, strict=True)
    return torch.stack([*(pres[k][t, i] for k, t, i in at), weight_V @ logits_V])


def test_total_effects(traced):
    found, wanted = traced.graph.effects, traced.other.total_effects(traced.weight_V)
    largest = float(wanted.token.abs().max())
    near(found.token_T, wanted.token, largest, traced.dtype)
    near(found.error_LT, wanted.error, float(wanted.error.abs().max()), traced.dtype)
    assert found.bias == pytest.approx(wanted.bias, abs=EDGES[traced.dtype] * max(1.0, abs(wanted.bias)) * 10)
    for k, layer in enumerate(traced.graph.frozen.layers):
        near(
            found.features[k],
            wanted.z[k][layer.position_N, layer.feature_N],
            float(wanted.z.abs().max()),
            traced.dtype,
        )
