"""What a trace explains, as a weighted sum of logits at the last position of the prompt (method §4)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

from scx_core.circuits.circuit import Target
from scx_core.circuits.frozen import FrozenPrompt
from scx_core.errors import ScxError
from scx_core.language import Language, answers_of, decision
from scx_core.sentences import EncodedCell


class TargetPlan(NamedTuple):
    """A target before its prompt is run: which answer tokens to teacher-force, which logits to weigh."""

    label: str
    answer: str
    forced: tuple[int, ...]
    coefficients: dict[int, float]
    against: tuple[str, ...]
    vocabulary_mean: float
    kind: str

    def prompt_ids(self, cell: EncodedCell) -> tuple[int, ...]:
        """The cell's prompt followed by the forced answer tokens."""
        return (*cell.ids, *self.forced)


def plan_target(
    lm: Language,
    labels: Sequence[str],
    label: str,
    *,
    lead: str,
    against: Sequence[str] | None = None,
    kind: str = "contrast",
) -> TargetPlan:
    """Plan the target of `label`.

    `contrast`: its decision token against the mean of its competitors' tokens there (default: all other
    labels; one name gives A against B). `logit`: its decision token, centred over the vocabulary.
    Raises ScxError for an unknown label, competitor or kind.
    """
    if kind not in ("contrast", "logit"):
        raise ScxError(f"There is no target of the kind {kind!r}.", "Use contrast or logit.")
    at = decision(answers_of(lm, labels, lead), label, against)
    word = lm.text(at.token).strip()
    if kind == "logit":
        return TargetPlan(f"{label}: logit of “{word}”", label, at.forced, {at.token: 1.0}, (), -1.0, kind)
    coefficients = {at.token: 1.0}
    for token in at.competing:
        coefficients[token] = -1.0 / len(at.competing)
    versus = at.covered[0] if len(at.covered) == 1 else f"{len(at.covered)} other types"
    return TargetPlan(f"{label} against {versus}", label, at.forced, coefficients, at.covered, 0.0, kind)


def target_read(frozen: FrozenPrompt, plan: TargetPlan) -> tuple[torch.Tensor, float, float]:
    """Read vector [d] on the last residual stream at the last position, its bias, and the target's value."""
    rep = frozen.replacement
    W_U_Vd = rep.lm.unembedding
    tokens = torch.tensor(list(plan.coefficients), device=W_U_Vd.device)
    weight = torch.tensor(list(plan.coefficients.values()), device=W_U_Vd.device, dtype=W_U_Vd.dtype)
    read_d = weight @ W_U_Vd[tokens]
    value = float(weight @ frozen.logits_V[tokens])
    if plan.vocabulary_mean:
        read_d = read_d + plan.vocabulary_mean * W_U_Vd.mean(0)
        value += plan.vocabulary_mean * float(frozen.logits_V.mean())
    bias = float(read_d @ rep.final_norm.shift_d)
    return rep.final_norm.fold(read_d) * frozen.final_scale_T[-1], bias, value


def finished_target(lm: Language, plan: TargetPlan, position: int | None, value: float) -> Target:
    """The target as it is stored in a circuit."""
    return Target(
        label=plan.label,
        answer=plan.answer,
        position=position,
        coefficients=plan.coefficients,
        against=plan.against,
        teacher_forced=tuple(lm.text(token) for token in plan.forced),
        value=value,
        kind=plan.kind,
        vocabulary_mean=plan.vocabulary_mean,
    )
