"""What is explained, as a record: a weighted sum of logits, a whole answer, or a feature (method §4)."""

from __future__ import annotations

from typing import NamedTuple


def unit_of(kind: str) -> str:
    """The unit of the value of a target of this kind."""
    return {"answer": "nats", "logprob": "nats", "feature": "of pre-activation"}.get(kind, "logits")


class Branch(NamedTuple):
    """What a whole answer's target reads at one position: a weighted sum of the logits there.

    `coefficients` maps a token id to its weight; `expected` is the weight of the model's own expectation of
    the logits, Σ p_v · logit_v with p the softmax at this position, which is taken off (target.py).
    """

    position: int
    coefficients: dict[int, float]
    expected: float = 0.0


class Target(NamedTuple):
    """What is explained: a weighted sum of logits, or a feature's pre-activation (method §4).

    `kind` is answer, contrast, logit, logprob, token or feature. `label` is the wording for people, `answer`
    the cell type (empty for token and feature), `teacher_forced` the answer tokens that stand in the prompt.
    `against`: the competitors that the target sets the answer against; `left_out`: the model's other answers,
    which it says nothing about (None in files of format 1, which did not tell); `same_target`: those of them
    whose target would be this very one, so that nothing here is about this answer rather than theirs.
    `rival_shares`: of an answer, how much each of `against` counts, as a share of their joint probability at
    this prompt (in a consensus the mean over cells). `value` is the target's value in its unit.
    `coefficients` maps a token id to its weight at `position`, the last one; `vocabulary_mean` is the weight
    of the mean logit over the whole vocabulary (−1 for a centred logit). A `logprob` has its own weights at
    each prompt beside its coefficient (target.py). An `answer` has none of these but `branches`, one a
    position that it reads, in the circuit of one cell. A feature has `layer` and `feature`.
    """

    label: str
    answer: str
    position: int | None
    coefficients: dict[int, float]
    against: tuple[str, ...] = ()
    teacher_forced: tuple[str, ...] = ()
    value: float = 0.0
    kind: str = "contrast"
    vocabulary_mean: float = 0.0
    layer: int | None = None
    feature: int | None = None
    left_out: tuple[str, ...] | None = None
    same_target: tuple[str, ...] = ()
    rival_shares: tuple[float, ...] = ()
    branches: tuple[Branch, ...] = ()

    @property
    def unit(self) -> str:
        """The unit of `value`. A log-probability is in nats, and so is a difference of logits."""
        return unit_of(self.kind)
