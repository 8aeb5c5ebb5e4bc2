"""One prompt of a tracer, frozen, with its target's read vector and the words for its positions.

What paths.py and heads.py need to work on a cell that a person names.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from scx_core.circuits.api import Tracer
from scx_core.circuits.circuit import Circuit
from scx_core.circuits.frozen import FrozenPrompt, freeze
from scx_core.circuits.target import TargetPlan, target_read
from scx_core.errors import ScxError


class Scene(NamedTuple):
    """`read_d` acts on the last residual stream at the last position; with `read_bias` it gives `value`.

    `tokens` and `genes` name the positions; `about` says which cell and answer this is.
    """

    frozen: FrozenPrompt
    read_d: torch.Tensor
    read_bias: float
    value: float
    label: str
    tokens: tuple[str, ...]
    genes: tuple[str | None, ...]
    about: dict[str, Any]


@torch.no_grad()
def scene_of_row(
    tracer: Tracer, row: int, label: str | None = None, against: Sequence[str] | None = None
) -> Scene:
    """The prompt of one cell and the target of `label` (default: what the model calls the cell).

    Raises ScxError when the row, the label or a competitor does not exist.
    """
    table = tracer.table
    if not 0 <= row < table.n_cells:
        raise ScxError(f"There is no cell {row} in {table.name}.", f"Rows run from 0 to {table.n_cells - 1}.")
    cell = tracer.encode([row])[0]
    plan = tracer.plan(label if label is not None else tracer.predict([row])[0], against)
    frozen = freeze(tracer.rep, plan.prompt_ids(cell))
    about = {"row": int(row), "cell_id": str(table.cell_ids[row]), "cell_label": str(table.labels[row])}
    genes = cell.gene_at() + [None] * (frozen.n_positions - len(cell.ids))
    return _scene(tracer, frozen, plan, genes, about)


@torch.no_grad()
def scene_of_circuit(tracer: Tracer, circuit: Circuit) -> Scene:
    """The prompt and target of a single-cell circuit, as its JSON has them.

    `genes` names only what the circuit's token nodes name. Raises ScxError for a consensus, whose nodes
    have no positions, and for a circuit of a model with another vocabulary.
    """
    if circuit.scope != "cell":
        raise ScxError("This is the circuit of many cells.", "Heads are told apart in the circuit of one.")
    target = circuit.target
    if max(*circuit.token_ids, *target.coefficients) >= len(tracer.lm.unembedding):
        raise ScxError("This circuit was traced on another model.", "Open the model that its file names.")
    plan = TargetPlan(
        target.label,
        target.answer,
        (),
        target.coefficients,
        target.against,
        target.vocabulary_mean,
        target.kind,
    )
    frozen = freeze(tracer.rep, circuit.token_ids)
    genes: list[str | None] = [None] * frozen.n_positions
    for node in circuit.nodes:
        if node.kind == "embedding" and node.position is not None:
            genes[node.position] = node.gene
    return _scene(tracer, frozen, plan, genes, dict(circuit.provenance.get("cell", {})))


def _scene(
    tracer: Tracer,
    frozen: FrozenPrompt,
    plan: TargetPlan,
    genes: Sequence[str | None],
    about: dict[str, Any],
) -> Scene:
    read_d, read_bias, value = target_read(frozen, plan)
    tokens = tuple(tracer.lm.text(token) for token in frozen.ids)
    return Scene(frozen, read_d, read_bias, value, plan.label, tokens, tuple(genes), about)
