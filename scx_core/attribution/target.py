"""What a trace explains (method §4): an answer against others, as a weighted sum of logits; or a feature.

Every target but a feature's is `Σ_j weight_V(j) · logits_V(j) + constant` over positions j of the prompt:

| kind | weights | constant |
|---|---|---|
| answer | at the places that decide the answer's tokens, see answer_target.py | value − Σ weights · logits |
| contrast | 1 on the decision token, −1/n on each of its n competitors | 0 |
| logit, token | 1 on the token, −1/V on every token: the logit, centred over the vocabulary | 0 |
| logprob | 1 on the decision token, −p_v on every token, p the softmax at this prompt, held fixed | −H(p) |

All but an answer's are read at the last position.

A log-probability is not linear in the logits. Its first-order expansion at this prompt is: the derivative
of `logit_t − logsumexp(logits)` is `e_t − p`, and `log p_t = (e_t − p) · logits − H(p)` with the entropy
H(p) = −Σ p_v log p_v. So the value is the real log-probability, and edges, total effects and interventions
under freeze are those of the expansion. Both are in nats, as logits are. Where the model caps its logits,
they are the capped ones, and the gradient takes softcap(x)/x of each, frozen.

**The whole answer** (`answer`) is log p(label) − log Σ_k p(k) over the competitors k: answer_target.py.

**auto** is `contrast` where one token parts the label from all its competitors and is no other label's too,
and `answer` elsewhere: where types share tokens, one of them would leave most competitors out of sight.
Legend: T positions, d residual width, V vocabulary, N active features of a layer, J last positions, W tokens.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from scx_core.attribution.answer_target import AnswerForm, AnswerPlan, Branch, answer_rows, form_of, with_rest
from scx_core.attribution.local_replacement_model import FrozenPrompt, feature_reads, freeze
from scx_core.attribution.replacement_model import Replacement, check_feature
from scx_core.attribution.residual_stream import GradientRows, last_rows
from scx_core.cells.choices import as_names
from scx_core.errors import ScxError
from scx_core.language import Language, Parting, answers_of, decision, partings, score_answers
from scx_core.sentences import EncodedCell
from scx_core.sentences.encode import AS_TEXT

# What the plan of a target and its record have in common.
SHARED = (
    *("label", "answer", "coefficients", "against", "kind", "vocabulary_mean", "layer", "feature"),
    *("left_out", "same_target", "branches"),
)
KINDS = ("auto", "answer", "contrast", "logit", "logprob", "token")


def unit_of(kind: str) -> str:
    """The unit of the value of a target of this kind."""
    return {"answer": "nats", "logprob": "nats", "feature": "of pre-activation"}.get(kind, "logits")


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


class TargetPlan(NamedTuple):
    """A target before its prompt is run: which answer tokens to teacher-force, which logits to weigh.

    `against`, `left_out`, `same_target`: see `Target`. `whole` is there for the kind `answer` alone; one that
    was read from a file has `branches` and `value` instead, and no `whole`. `layer`, `feature` and `position`
    are those of a target of the kind `feature`, which weighs no logits; its position None stands for the last
    one at which the feature is active.
    """

    label: str
    answer: str
    forced: tuple[int, ...]
    coefficients: dict[int, float]
    against: tuple[str, ...]
    vocabulary_mean: float
    kind: str
    layer: int | None = None
    position: int | None = None
    feature: int | None = None
    left_out: tuple[str, ...] | None = ()
    same_target: tuple[str, ...] = ()
    whole: AnswerPlan | None = None
    branches: tuple[Branch, ...] = ()
    value: float = 0.0

    @property
    def token(self) -> int | None:
        """The explained token, None for a feature and for an answer of several."""
        return max(self.coefficients, key=lambda token: self.coefficients[token], default=None)

    @property
    def n_logits(self) -> int:
        """J: at how many of the last positions the target may read logits (see `freeze`)."""
        return len(self.forced) + 1 if self.kind == "answer" else 1

    def prompt_ids(self, cell: EncodedCell) -> tuple[int, ...]:
        """The cell's prompt followed by the forced answer tokens."""
        return (*cell.ids, *self.forced)

    def in_cell(self, score_KW: np.ndarray) -> TargetPlan:
        """The plan with its r_k as they are in one cell. `score_KW`: log-probability of each token of each
        competitor's answer there, in the order of `whole`. Other kinds need none and stay as they are."""
        return self if self.whole is None else self._replace(whole=with_rest(self.whole, score_KW))


def plan_target(
    lm: Language,
    labels: Sequence[str],
    label: str,
    *,
    lead: str,
    against: Sequence[str] | None = None,
    kind: str = "auto",
    token: int | str | None = None,
) -> TargetPlan:
    """Plan the target of `label` against its competitors (default: all other labels; one name: A against B).

    `answer`: the whole answer's log-odds against theirs. `contrast`: its decision token against the mean of
    the competitors' tokens there; those that leave the label at another token are left out. `auto`: see
    above. `logit`, `logprob`: the decision token alone. `token`: any token at this place, see `find_token`.
    Raises ScxError for an unknown label, competitor, kind or token.
    """
    if kind not in KINDS:
        raise ScxError(f"There is no target of the kind {kind!r}.", f"Use one of {', '.join(KINDS)}.")
    against = as_names(against)
    answers = answers_of(lm, labels, lead)
    rivals = partings(answers, label, against)
    if kind == "auto":
        kind = "contrast" if _one_token_parts(answers, label, rivals) else "answer"
    if kind == "answer":
        return _plan_answer(answers, label, rivals)
    at = decision(answers, label, against)
    if kind == "token":
        wanted = find_token(lm, token)
        words = f"logit of “{lm.text(wanted).strip()}” where {label} is decided"
        return TargetPlan(words, "", at.forced, {wanted: 1.0}, (), -1.0, kind)
    own = (*at.forced, at.token)
    alike = tuple(name for name in answers if name != label and answers[name][: len(own)] == own)
    left_out = tuple(name for name in answers if name not in (label, *at.covered))
    if kind != "contrast":
        name, mean = ("logit", -1.0) if kind == "logit" else ("log-probability", 0.0)
        words = f"{label}: {name} of “{lm.text(at.token).strip()}”"
        others = tuple(name for name in answers if name != label)
        plan = TargetPlan(words, label, at.forced, {at.token: 1.0}, (), mean, kind)
        return plan._replace(left_out=others, same_target=alike)
    coefficients = {at.token: 1.0}
    for rival in at.competing:
        coefficients[rival] = -1.0 / len(at.competing)
    words = f"{label} against {_versus(at.covered)}"
    plan = TargetPlan(words, label, at.forced, coefficients, at.covered, 0.0, kind)
    return plan._replace(left_out=left_out, same_target=alike)


def _versus(rivals: Sequence[str]) -> str:
    return rivals[0] if len(rivals) == 1 else f"{len(rivals)} other types"


def _one_token_parts(answers: dict[str, tuple[int, ...]], label: str, rivals: Sequence[Parting]) -> bool:
    """Whether one token parts the label from all of these, and is on no other label's way."""
    at, own = rivals[0].at, answers[label]
    if any(rival.at != at or rival.token is None for rival in rivals):
        return False
    return sum(answer[: at + 1] == own[: at + 1] for answer in answers.values()) == 1


def _plan_answer(answers: dict[str, tuple[int, ...]], label: str, rivals: tuple[Parting, ...]) -> TargetPlan:
    names = tuple(rival.name for rival in rivals)
    whole = AnswerPlan(answers[label], rivals, tuple(answers[name] for name in names))
    left_out = tuple(name for name in answers if name not in (label, *names))
    words = f"{label} against {_versus(names)}"
    plan = TargetPlan(words, label, answers[label][:-1], {}, names, 0.0, "answer")
    return plan._replace(left_out=left_out, whole=whole)


def find_token(lm: Language, token: int | str | None) -> int:
    """The id of a token that a person names: a number is an id, a text the token that spells it.

    A text that is no token by itself may be one with a space in front, as most words are. Raises ScxError
    when no single token is meant.
    """
    size = lm.unembedding.shape[0]
    if token is None or token == "":
        raise ScxError("The target is a token, and no token is given.", "Give its text or its number.")
    if isinstance(token, int) or token.isdecimal():
        if not 0 <= int(token) < size:
            raise ScxError(f"The model has no token {token}.", f"Its tokens run from 0 to {size - 1}.")
        return int(token)
    spelled = {text: lm.tokenizer(text, **AS_TEXT)["input_ids"] for text in (token, f" {token}")}
    for ids in spelled.values():
        if len(ids) == 1:
            return int(ids[0])
    parts = " ".join(f"“{lm.text(part)}”" for part in spelled[token][:8])
    raise ScxError(
        f"{token[:40]!r} is {len(spelled[token])} tokens of this model: {parts}.",
        "Give the text of one of them, or its number.",
    )


def plan_feature(rep: Replacement, layer: int, feature: int, position: int | None = None) -> TargetPlan:
    """Plan the pre-activation of a transcoder feature. Raises ScxError when the set has no such feature."""
    check_feature(rep, layer, feature)
    words = f"feature L{layer}·{feature}"
    return TargetPlan(words, "", (), {}, (), 0.0, "feature", layer, position, feature)


def vocabulary_weights(frozen: FrozenPrompt, plan: TargetPlan) -> tuple[torch.Tensor, float]:
    """A target of the last position as a function of its logits: weights float64 [V] and the constant."""
    logits_V = frozen.logits_V.double()
    weight_V = torch.full_like(logits_V, plan.vocabulary_mean / len(logits_V))
    constant = 0.0
    if plan.kind == "logprob":
        logp_V = logits_V.log_softmax(0)
        weight_V -= logp_V.exp()
        constant = float((logp_V.exp() * logp_V).nan_to_num(0.0).sum())
    for token, weight in plan.coefficients.items():
        weight_V[token] += weight
    return weight_V, constant


def target_gradient(frozen: FrozenPrompt, plan: TargetPlan) -> tuple[torch.Tensor, float, float]:
    """Of a target of the last position: gradient [d] on the last residual stream, its bias, its value."""
    rep = frozen.replacement
    W_U_Vd = rep.lm.unembedding
    weight_V, constant = vocabulary_weights(frozen, plan)
    value = float(weight_V @ frozen.logits_V.double()) + constant
    if frozen.logit_factor_V is not None:
        weight_V = weight_V * frozen.logit_factor_V
    weight_V = weight_V.to(W_U_Vd.dtype)
    at = weight_V.nonzero()[:, 0]
    # A contrast weighs a dozen of the vocabulary's rows; the others all of them, where a copy is a waste.
    gradient_d = weight_V[at] @ W_U_Vd[at] if len(at) < len(weight_V) // 2 else weight_V @ W_U_Vd
    bias = float(gradient_d @ rep.final_norm.shift_d) + constant
    return rep.final_norm.fold(gradient_d) * frozen.final_scale_T[-1], bias, value


def feature_gradient(
    frozen: FrozenPrompt, layer: int, position: int, feature: int
) -> tuple[torch.Tensor, float, float]:
    """The target of a feature: gradient [d], bias and value of its pre-activation at `position`.

    The vector reads the stream that the norm before the MLP of `layer` reads there: the block's input where
    attention and MLP are parallel, else the stream after the block's own attention (method §1). Raises
    ScxError when the feature is not active there: a closed gate has no edges.
    """
    held = frozen.layers[layer]
    here = ((held.position_N == position) & (held.feature_N == feature)).nonzero()[:, 0]
    if not len(here):
        at = held.position_N[held.feature_N == feature].tolist()
        known = ", ".join(map(str, at[:12])) or "no token of this prompt"
        raise ScxError(
            f"Feature {feature} of layer {layer} is not active at token {position}.", f"It is at {known}."
        )
    one = here[:1]
    gradient_1d, bias_1 = feature_reads(
        frozen.replacement.layers[layer], held, held.feature_N[one], held.position_N[one]
    )
    return gradient_1d[0], float(bias_1[0]), float(held.value_N[here[0]])


def answer_form(frozen: FrozenPrompt, plan: TargetPlan) -> AnswerForm | None:
    """What a whole answer's target reads at this prompt; None for other kinds.

    Where the r_k were not measured before (TargetPlan.in_cell), the model is run once more for them.
    """
    if plan.kind != "answer":
        return None
    if plan.whole is None:
        return AnswerForm(plan.branches, plan.value, (), None)
    if plan.whole.rest_K is None:
        prompt = frozen.ids[: frozen.n_positions - len(plan.forced)]
        plan = plan.in_cell(score_answers(frozen.replacement.lm, [prompt], plan.whole.tokens_K)[0])
    assert plan.whole is not None
    return form_of(frozen.logits_JV[-plan.n_logits :], plan.whole, frozen.n_positions - plan.n_logits)


def target_row(
    frozen: FrozenPrompt, plan: TargetPlan, form: AnswerForm | None = None
) -> tuple[GradientRows, float, float]:
    """The target of any kind as rows for the tracer (one, but for an answer), its bias and its value.

    `form`: a whole answer's, where it is known already.
    """
    form = form or answer_form(frozen, plan)
    if form is not None:
        return *answer_rows(frozen, form), form.value
    if plan.layer is None or plan.feature is None:
        gradient_d, bias, value = target_gradient(frozen, plan)
        return last_rows(frozen, gradient_d), bias, value
    layer, position = plan.layer, plan.position
    if position is None:
        position = last_active(frozen, layer, plan.feature)
    gradient_d, bias, value = feature_gradient(frozen, layer, position, plan.feature)
    at = torch.tensor([position], device=gradient_d.device)
    return GradientRows(gradient_d[None], at, layer, not frozen.replacement.parallel), bias, value


def last_active(frozen: FrozenPrompt, layer: int, feature: int) -> int:
    """The last position at which a feature is active. Raises ScxError when there is none."""
    held = frozen.layers[layer]
    at = held.position_N[held.feature_N == feature]
    if not len(at):
        remedy = "Choose a feature of this cell's circuit, or another cell."
        raise ScxError(f"Feature {feature} of layer {layer} is not active in this prompt.", remedy)
    return int(at.max())


def probability_score(
    frozen: FrozenPrompt, plan: TargetPlan, form: AnswerForm | None = None
) -> dict[str, float]:
    """`probability` for a circuit's scores: of the whole answer, or of the explained token over the
    vocabulary; none of a feature or of an answer whose plan comes from a file."""
    if form is not None and form.log_probability is not None:
        return {"probability": math.exp(form.log_probability)}
    if plan.token is None:
        return {}
    return {"probability": float(frozen.logits_V.double().softmax(0)[plan.token])}


def plans_in(lm: Language, plan: TargetPlan, cells: Sequence[EncodedCell]) -> list[TargetPlan]:
    """The plan in each cell: a whole answer's with its r_k measured there."""
    if plan.whole is None:
        return [plan] * len(cells)
    score_BKW = score_answers(lm, [cell.ids for cell in cells], plan.whole.tokens_K)
    return [plan.in_cell(score_KW) for score_KW in score_BKW]


def frozen_for(rep: Replacement, cell: EncodedCell, plan: TargetPlan) -> FrozenPrompt:
    """The cell's prompt with the plan's forced tokens, frozen with the logits that the target reads."""
    return freeze(rep, plan.prompt_ids(cell), plan.n_logits)


def finished_target(
    lm: Language, plan: TargetPlan, position: int | None, value: float, form: AnswerForm | None = None
) -> Target:
    """The target as it is stored in a circuit; `form` is that of a whole answer at one prompt."""
    shared = {name: getattr(plan, name) for name in SHARED if name != "branches"}
    return Target(
        **shared,
        position=position,
        teacher_forced=tuple(lm.text(token) for token in plan.forced),
        value=value,
        rival_shares=form.share_K if form else (),
        branches=form.branches if form else (),
    )


def saved_plan(target: Target) -> TargetPlan:
    """The plan that a saved target was made from; its answer tokens are part of the prompt already."""
    shared: dict[str, Any] = {name: getattr(target, name) for name in SHARED}
    position = target.position if target.kind == "feature" else None
    return TargetPlan(**shared, forced=(), position=position, value=target.value)
