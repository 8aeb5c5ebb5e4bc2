"""One prompt of a tracer, frozen, with its target's gradient and the names for its positions.

What paths.py and heads.py need to work on a cell that a person names.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from scx_core.attribution.local_replacement_model import FrozenPrompt, freeze
from scx_core.attribution.residual_stream import GradientRows
from scx_core.attribution.target import TargetPlan, frozen_for, saved_plan, target_row
from scx_core.circuits.circuit import Circuit, Target
from scx_core.circuits.feature_names import NameBook, sourced
from scx_core.circuits.trace import TraceConfig
from scx_core.circuits.tracer import TRACE, Tracer
from scx_core.errors import ScxError


class TracedPrompt(NamedTuple):
    """`target` is the one row that is explained; read there, with `target_bias` added, it has `value`.

    `label` says in words what it is, `unit` what it is measured in. `tokens` and `genes` name the positions,
    `names` the features where an atlas does. `provenance` says which cell, model and transcoders these are.
    """

    frozen: FrozenPrompt
    target: GradientRows
    target_bias: float
    value: float
    label: str
    unit: str
    tokens: tuple[str, ...]
    genes: tuple[str | None, ...]
    provenance: dict[str, Any]
    names: NameBook | None = None


@torch.no_grad()
def prompt_of_row(
    tracer: Tracer,
    row: int,
    label: str | None = None,
    against: Sequence[str] | None = None,
    trace: TraceConfig = TRACE,
) -> TracedPrompt:
    """The prompt of one cell and the target of `label` (default: what the model calls the cell).

    Of `trace` the target's kind and token count. Raises ScxError when the row, the label, a competitor or
    the token does not exist.
    """
    tracer.check_row(row)
    cell = tracer.encode([row])[0]
    answer = label if label is not None else tracer.predict([row])[0]
    plan = tracer.plan(answer, against, trace.target, trace.token)
    plan = tracer.plans_in_cells([cell], plan)[0][0]
    frozen = frozen_for(tracer.rep, cell, plan)
    genes = cell.gene_at() + [None] * (frozen.n_positions - len(cell.ids))
    config = {"target": trace.target, "token": trace.token}
    return _traced_prompt(tracer, frozen, plan, genes, tracer.about(config, cell=tracer.cell_record(row)))


@torch.no_grad()
def prompt_of_circuit(tracer: Tracer, circuit: Circuit) -> TracedPrompt:
    """The prompt and target of a single-cell circuit, as its JSON has them.

    Raises ScxError for the circuit of many cells, whose nodes have no positions, and for one of a model with
    another vocabulary.
    """
    if circuit.scope != "cell":
        raise ScxError("This is the circuit of many cells.", "Heads are told apart in the circuit of one.")
    weighed = (circuit.target.coefficients, *(branch.coefficients for branch in circuit.target.branches))
    if max(*circuit.token_ids, *(max(row, default=0) for row in weighed)) >= len(tracer.lm.unembedding):
        raise ScxError("This circuit was traced on another model.", "Open the model that its file names.")
    length = len(circuit.token_ids)
    logits = length - min((branch.position for branch in circuit.target.branches), default=length - 1)
    if not 1 <= logits <= length:
        raise ScxError("This circuit's target reads behind its prompt.", "Trace the cell again.")
    frozen = freeze(tracer.rep, circuit.token_ids, logits)
    return _traced_prompt(
        tracer, frozen, saved_plan(circuit.target), _genes_of(tracer, circuit), circuit.provenance
    )


def _genes_of(tracer: Tracer, circuit: Circuit) -> list[str | None]:
    """The gene of each position: from the cell if the tracer's table still holds it, else from the nodes."""
    length, row = len(circuit.token_ids), circuit.provenance.get("cell", {}).get("row", -1)
    if 0 <= row < tracer.table.n_cells:
        cell = tracer.encode([row])[0]
        if cell.ids == circuit.token_ids[: len(cell.ids)]:
            return cell.gene_at() + [None] * (length - len(cell.ids))
    genes: list[str | None] = [None] * length
    for node in circuit.nodes:
        if node.kind == "embedding" and node.position is not None:
            genes[node.position] = node.gene
    return genes


def _traced_prompt(
    tracer: Tracer,
    frozen: FrozenPrompt,
    plan: TargetPlan,
    genes: Sequence[str | None],
    provenance: dict[str, Any],
) -> TracedPrompt:
    row, target_bias, value = target_row(frozen, plan)
    tokens = tuple(tracer.lm.text(token) for token in frozen.ids)
    unit = Target(plan.label, plan.answer, None, {}, kind=plan.kind).unit
    about = sourced(provenance, tracer.names)
    return TracedPrompt(
        frozen, row, target_bias, value, plan.label, unit, tokens, tuple(genes), about, tracer.names
    )
