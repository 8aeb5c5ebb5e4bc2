"""What a trace explains (method §4): a weighted sum of logits where the answer is decided, or a feature.

Every target but a feature's is `weight_V · logits_V + constant`, read at the last position of the prompt:

| kind | weights | constant |
|---|---|---|
| contrast | 1 on the decision token, −1/n on each of its n competitors | 0 |
| logit, token | 1 on the token, −1/V on every token: the logit, centred over the vocabulary | 0 |
| logprob | 1 on the decision token, −p_v on every token, p the softmax at this prompt, held fixed | −H(p) |

A log-probability is not linear in the logits. Its first-order expansion at this prompt is: the derivative
of `logit_t − logsumexp(logits)` is `e_t − p`, and `log p_t = (e_t − p) · logits − H(p)` with the entropy
H(p) = −Σ p_v log p_v. So the value is the real log-probability, and edges, total effects and interventions
under freeze are those of the expansion. Both are in nats, as logits are. Where the model caps its logits,
they are the capped ones, and the read vector takes softcap(x)/x of each, frozen.
Legend: T positions, d residual width, V vocabulary, N active features of a layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

from scx_core.circuits.circuit import Target
from scx_core.circuits.frozen import FrozenPrompt
from scx_core.circuits.replacement import Replacement
from scx_core.circuits.sources import Rows, last_rows
from scx_core.errors import ScxError
from scx_core.language import Language, answers_of, decision
from scx_core.sentences import EncodedCell
from scx_core.sentences.encode import AS_TEXT

KINDS = ("contrast", "logit", "logprob", "token")


class TargetPlan(NamedTuple):
    """A target before its prompt is run: which answer tokens to teacher-force, which logits to weigh.

    `layer`, `feature` and `position` are those of a target of the kind `feature`, which weighs no logits;
    its position None stands for the last one at which the feature is active.
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

    @property
    def token(self) -> int | None:
        """The explained token, None for a feature."""
        return max(self.coefficients, key=lambda token: self.coefficients[token], default=None)

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
    token: int | str | None = None,
) -> TargetPlan:
    """Plan the target of `label`, read where `label` parts from its competitors.

    `contrast`: its decision token against the mean of its competitors' tokens there (default: all other
    labels; one name gives A against B). `logit`, `logprob`: its decision token alone. `token`: any token
    at this place, see `find_token`. Raises ScxError for an unknown label, competitor, kind or token.
    """
    if kind not in KINDS:
        raise ScxError(f"There is no target of the kind {kind!r}.", f"Use one of {', '.join(KINDS)}.")
    at = decision(answers_of(lm, labels, lead), label, against)
    if kind == "token":
        wanted = find_token(lm, token)
        words = f"logit of “{lm.text(wanted).strip()}” where {label} is decided"
        return TargetPlan(words, "", at.forced, {wanted: 1.0}, (), -1.0, kind)
    if kind != "contrast":
        name, mean = ("logit", -1.0) if kind == "logit" else ("log-probability", 0.0)
        words = f"{label}: {name} of “{lm.text(at.token).strip()}”"
        return TargetPlan(words, label, at.forced, {at.token: 1.0}, (), mean, kind)
    coefficients = {at.token: 1.0}
    for rival in at.competing:
        coefficients[rival] = -1.0 / len(at.competing)
    versus = at.covered[0] if len(at.covered) == 1 else f"{len(at.covered)} other types"
    return TargetPlan(f"{label} against {versus}", label, at.forced, coefficients, at.covered, 0.0, kind)


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
    if not 0 <= layer < len(rep.layers):
        raise ScxError(f"There is no layer {layer}.", f"Layers run from 0 to {len(rep.layers) - 1}.")
    n_features = len(rep.layers[layer].enc_Fd)
    if not 0 <= feature < n_features:
        raise ScxError(f"Layer {layer} has no feature {feature}.", f"They run from 0 to {n_features - 1}.")
    words = f"feature L{layer}·{feature}"
    return TargetPlan(words, "", (), {}, (), 0.0, "feature", layer, position, feature)


def vocabulary_weights(frozen: FrozenPrompt, plan: TargetPlan) -> tuple[torch.Tensor, float]:
    """The target as a function of the logits: weights float64 [V] and the constant (table above)."""
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


def target_read(frozen: FrozenPrompt, plan: TargetPlan) -> tuple[torch.Tensor, float, float]:
    """Read vector [d] on the last residual stream at the last position, its bias, and the target's value."""
    rep = frozen.replacement
    W_U_Vd = rep.lm.unembedding
    weight_V, constant = vocabulary_weights(frozen, plan)
    value = float(weight_V @ frozen.logits_V.double()) + constant
    if frozen.logit_factor_V is not None:
        weight_V = weight_V * frozen.logit_factor_V
    weight_V = weight_V.to(W_U_Vd.dtype)
    at = weight_V.nonzero()[:, 0]
    # A contrast weighs a dozen of the vocabulary's rows; the others all of them, where a copy is a waste.
    read_d = weight_V[at] @ W_U_Vd[at] if len(at) < len(weight_V) // 2 else weight_V @ W_U_Vd
    bias = float(read_d @ rep.final_norm.shift_d) + constant
    return rep.final_norm.fold(read_d) * frozen.final_scale_T[-1], bias, value


def feature_read(
    frozen: FrozenPrompt, layer: int, position: int, feature: int
) -> tuple[torch.Tensor, float, float]:
    """The target of a feature: read vector [d], bias and value of its pre-activation at `position`.

    The vector reads the stream that the norm before the MLP of `layer` reads there: the block's input where
    attention and MLP are parallel, else the stream after the block's own attention (method §1). Raises
    ScxError when the feature is not active there: a closed gate has no edges.
    """
    maps, held = frozen.replacement.layers[layer], frozen.layers[layer]
    here = ((held.position_N == position) & (held.feature_N == feature)).nonzero()[:, 0]
    if not len(here):
        at = held.position_N[held.feature_N == feature].tolist()
        known = ", ".join(map(str, at[:12])) or "no token of this prompt"
        raise ScxError(
            f"Feature {feature} of layer {layer} is not active at token {position}.", f"It is at {known}."
        )
    read_d = maps.enc_Fd[feature] * held.mlp_scale_T[position]
    return read_d, float(maps.enc_bias_F[feature]), float(held.value_N[here[0]])


def target_row(frozen: FrozenPrompt, plan: TargetPlan) -> tuple[Rows, float, float]:
    """The target of any kind as a row for the tracer, its bias and its value."""
    if plan.layer is None or plan.feature is None:
        read_d, bias, value = target_read(frozen, plan)
        return last_rows(frozen, read_d), bias, value
    layer, position = plan.layer, plan.position
    if position is None:
        position = last_active(frozen, layer, plan.feature)
    read_d, bias, value = feature_read(frozen, layer, position, plan.feature)
    at = torch.tensor([position], device=read_d.device)
    return Rows(read_d[None], at, layer, not frozen.replacement.parallel), bias, value


def last_active(frozen: FrozenPrompt, layer: int, feature: int) -> int:
    """The last position at which a feature is active. Raises ScxError when there is none."""
    held = frozen.layers[layer]
    at = held.position_N[held.feature_N == feature]
    if not len(at):
        remedy = "Choose a feature of this cell's circuit, or another cell."
        raise ScxError(f"Feature {feature} of layer {layer} is not active in this prompt.", remedy)
    return int(at.max())


def is_called(frozen: FrozenPrompt, plan: TargetPlan) -> bool:
    """Whether the model prefers the explained token here: to its competitors, else to every other token."""
    if plan.token is None:
        return True
    rivals = [token for token, weight in plan.coefficients.items() if weight < 0]
    others_V = frozen.logits_V[rivals] if rivals else frozen.logits_V
    own = frozen.logits_V[plan.token]
    return bool((own > others_V).all()) if rivals else bool(own >= others_V.max())


def probability_score(frozen: FrozenPrompt, plan: TargetPlan) -> dict[str, float]:
    """`probability` of the explained token over the vocabulary, for a circuit's scores; not of a feature."""
    if plan.token is None:
        return {}
    return {"probability": float(frozen.logits_V.double().softmax(0)[plan.token])}


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
        layer=plan.layer,
        feature=plan.feature,
    )
