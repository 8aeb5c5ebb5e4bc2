"""The answer's score as a sum: what genes, prompt words, reconstruction errors and biases add to it."""

from __future__ import annotations

from typing import NamedTuple

from scx_core.circuits.circuit import Circuit

PARTS = (
    ("genes", "gene_effect"),
    ("prompt words", "prompt_effect"),
    ("reconstruction errors", "error_effect"),
    ("biases", "bias_effect"),
)


class Part(NamedTuple):
    """One summand in logits. `share` is of the sum of the absolute summands, so that opposite signs show."""

    name: str
    effect: float
    share: float


def account(circuit: Circuit) -> tuple[Part, ...]:
    """The four summands of the score (total effects, method §8); none if the circuit does not state them."""
    if not all(key in circuit.scores for _, key in PARTS):
        return ()
    total = sum(abs(circuit.scores[key]) for _, key in PARTS) or 1.0
    return tuple(Part(name, circuit.scores[key], abs(circuit.scores[key]) / total) for name, key in PARTS)
