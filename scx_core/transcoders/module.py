"""A transcoder as it is used after training, and a set of them, one per MLP layer (method §2).

Legend: T tokens, d residual width, F features, N active (token, feature) pairs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

import torch

from scx_core.errors import ScxError
from scx_core.language.hooks import OnOutput, Stand_in
from scx_core.language.numerics.onednn import linear
from scx_core.metrics import active
from scx_core.transcoders.screened import at_hand, screened

Kind = Literal["relu", "topk", "jumprelu"]
Reads = Literal["input", "output"]
Writes = Literal["own", "later"]
Form = Literal["transcoder", "sae", "cross-layer"]
FIELDS = {
    "W_enc": "W_enc_Fd",
    "W_dec": "W_dec_Fd",
    "b_enc": "b_enc_F",
    "b_dec": "b_dec_d",
    "W_skip": "W_skip_dd",
    "threshold": "threshold_F",
}
BY_FEATURE = ("W_enc", "W_dec", "b_enc", "threshold")
LARGE = 2**30  # products of a dense decoder, from which on it is worth looking for the active features
AT_ONCE = 16_000_000  # pre-activations that a processor makes at a time, where the active ones alone are kept
FEW = 16  # fewer than one in so many active: their rows of W_dec are added up, instead of a whole product


class Active(NamedTuple):
    """The active features of some tokens, sorted by position, then feature. Values are ≠ 0."""

    position_N: torch.Tensor
    feature_N: torch.Tensor
    value_N: torch.Tensor


def active_of(z_TF: torch.Tensor) -> Active:
    """The active features among the activations of some tokens, [T, F]."""
    position_N, feature_N = active(z_TF).nonzero(as_tuple=True)
    return Active(position_N, feature_N, z_TF[position_N, feature_N])


@dataclass(frozen=True, eq=False)
class Transcoder:
    """ŷ = act(W_enc x + b_enc) W_dec + b_dec (+ W_skip x), on raw MLP inputs x.

    `kind` is the gate: relu; topk (the `k` largest of a token, among the positive ones); jumprelu
    (pre-activations above `threshold_F` pass unchanged). Raises ScxError when the shapes disagree.
    """

    W_enc_Fd: torch.Tensor
    b_enc_F: torch.Tensor
    W_dec_Fd: torch.Tensor
    b_dec_d: torch.Tensor
    W_skip_dd: torch.Tensor | None = None
    kind: Kind = "relu"
    k: int | None = None
    threshold_F: torch.Tensor | None = None

    def __post_init__(self) -> None:
        F, d = self.W_enc_Fd.shape if self.W_enc_Fd.ndim == 2 else (0, 0)
        wanted = {
            "W_enc": (F, d),
            "W_dec": (F, d),
            "b_enc": (F,),
            "b_dec": (d,),
            "W_skip": (d, d),
            "threshold": (F,),
        }
        for name, tensor in self.tensors().items():
            if tuple(tensor.shape) != wanted[name] or F == 0:
                raise ScxError(
                    f"{name} of a transcoder has the shape {tuple(tensor.shape)}, expected {wanted[name]}.",
                    "W_enc and W_dec: [features, width]; b_enc: [features]; b_dec: [width].",
                )
        needs = {"topk": ("k", self.k), "jumprelu": ("threshold", self.threshold_F)}
        if self.kind in needs and needs[self.kind][1] is None:
            raise ScxError(
                f"A {self.kind} transcoder needs {needs[self.kind][0]}.", "Save the set again with it."
            )

    def tensors(self) -> dict[str, torch.Tensor]:
        """The weights that exist, by their plain names."""
        found = {name: getattr(self, field) for name, field in FIELDS.items()}
        return {name: tensor for name, tensor in found.items() if tensor is not None}

    @property
    def n_features(self) -> int:
        """F."""
        return self.W_enc_Fd.shape[0]

    @property
    def width(self) -> int:
        """d."""
        return self.W_enc_Fd.shape[1]

    def pre(self, x_Td: torch.Tensor) -> torch.Tensor:
        """Pre-activations [..., F]."""
        return linear(x_Td.to(self.W_enc_Fd.dtype), self.W_enc_Fd, self.b_enc_F)

    def gate(self, pre_TF: torch.Tensor) -> torch.Tensor:
        """Feature activations of pre-activations, both [..., F]."""
        if self.kind == "relu":
            return pre_TF.relu()
        if self.kind == "jumprelu":
            assert self.threshold_F is not None  # checked when it was made
            return pre_TF * (pre_TF > self.threshold_F)
        top = pre_TF.topk(min(self.k or 0, self.n_features), dim=-1)
        return torch.zeros_like(pre_TF).scatter(-1, top.indices, top.values.relu())

    def fires(self, pre_TF: torch.Tensor) -> torch.Tensor:
        """Which features are active at these pre-activations, bool [..., F]: `active(gate(pre))`, without the
        product where that is all that the gate does."""
        if self.kind == "jumprelu":
            assert self.threshold_F is not None  # checked when it was made
            above_TF = pre_TF > self.threshold_F
            if pre_TF.device.type == "cpu" and bool((self.threshold_F >= 0).all()):
                return above_TF  # and so not 0
            return above_TF & (pre_TF != 0)
        return pre_TF > 0 if self.kind == "relu" else active(self.gate(pre_TF))

    def encode(self, x_Td: torch.Tensor) -> torch.Tensor:
        """Feature activations z [..., F], most of them 0."""
        return self.gate(self.pre(x_Td))

    def decode(self, z_TF: torch.Tensor) -> torch.Tensor:
        """z W_dec + b_dec [..., d], without the skip term. Large ones of few active features, on a processor
        and without gradients, from the rows of those alone."""
        large = z_TF.numel() * self.width >= LARGE and z_TF.device.type == "cpu"
        if large and not (torch.is_grad_enabled() and (z_TF.requires_grad or self.W_dec_Fd.requires_grad)):
            flat_TF = z_TF.reshape(-1, self.n_features)
            some = active_of(flat_TF)
            if len(some.value_N) * FEW <= z_TF.numel():
                return self._added_up(some, len(flat_TF)).view(*z_TF.shape[:-1], -1) + self.b_dec_d
        return linear(z_TF, self.W_dec_Fd.T) + self.b_dec_d

    def __call__(self, x_Td: torch.Tensor) -> torch.Tensor:
        """The stand-in for the MLP's output [..., d], skip term included."""
        if self._by_pairs(x_Td):
            flat_Td = x_Td.reshape(-1, x_Td.shape[-1])
            return self.rebuild(flat_Td, self.active(flat_Td)).view(*x_Td.shape[:-1], -1)
        return self.reconstruct(x_Td, self.encode(x_Td))

    def _by_pairs(self, x_Td: torch.Tensor) -> bool:
        """Whether it is worth looking for the active features alone: of much, on a processor, without
        gradients."""
        work = x_Td.numel() * self.n_features
        return work >= LARGE and x_Td.device.type == "cpu" and not torch.is_grad_enabled()

    def reconstruct(self, x_Td: torch.Tensor, z_TF: torch.Tensor) -> torch.Tensor:
        """The stand-in for the MLP's output [..., d] where the feature activations are known already."""
        y_Td = self.decode(z_TF)
        return y_Td if self.W_skip_dd is None else y_Td + self._skipped(x_Td)

    def _skipped(self, x_Td: torch.Tensor) -> torch.Tensor:
        assert self.W_skip_dd is not None  # asked before
        return linear(x_Td.to(self.W_skip_dd.dtype), self.W_skip_dd)

    def active(self, x_Td: torch.Tensor) -> Active:
        """The active features of every token of x [T, d]. Every gate passes what is above it unchanged."""
        step = max(1, AT_ONCE // self.n_features) if x_Td.device.type == "cpu" else max(1, len(x_Td))
        if len(x_Td) <= step:
            return self._active(x_Td, 0)
        parts = [self._active(some_Td, n * step) for n, some_Td in enumerate(x_Td.split(step))]
        return Active(*map(torch.cat, zip(*parts, strict=True)))

    def _active(self, x_Td: torch.Tensor, first: int) -> Active:
        if self._screens(x_Td):
            assert self.threshold_F is not None  # checked when it was made
            if found := screened(x_Td, self.W_enc_Fd, self.b_enc_F, self.threshold_F):
                return Active(found[0] + first, *found[1:])
        pre_TF = self.pre(x_Td)
        position_N, feature_N = self.fires(pre_TF).nonzero(as_tuple=True)
        return Active(position_N + first, feature_N, pre_TF[position_N, feature_N])

    def _screens(self, x_Td: torch.Tensor) -> bool:
        """Whether the active features are looked for in bfloat16: of much, where the processor is made for
        it. Only where encoders read x itself."""
        plain = x_Td.dtype == self.W_enc_Fd.dtype == torch.float32 and type(self).pre is Transcoder.pre
        return plain and self.kind == "jumprelu" and self._by_pairs(x_Td) and at_hand()

    def rebuild(self, x_Td: torch.Tensor, active: Active) -> torch.Tensor:
        """`reconstruct` of x [T, d] from its active features alone, [T, d]."""
        if len(active.value_N) * FEW > len(x_Td) * self.n_features:
            z_TF = active.value_N.new_zeros(len(x_Td), self.n_features)
            z_TF[active.position_N, active.feature_N] = active.value_N
            return self.reconstruct(x_Td, z_TF)
        y_Td = self._added_up(active, len(x_Td)) + self.b_dec_d
        return y_Td if self.W_skip_dd is None else y_Td + self._skipped(x_Td)

    def _added_up(self, active: Active, n_tokens: int) -> torch.Tensor:
        """Σ value W_dec over the active features of each token, [T, d]."""
        counts_T = torch.bincount(active.position_N, minlength=n_tokens)
        return torch.nn.functional.embedding_bag(
            active.feature_N,
            self.W_dec_Fd,
            counts_T.cumsum(0) - counts_T,
            per_sample_weights=active.value_N,
            mode="sum",
        )

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Self:
        """A copy on another device or in another precision; itself when nothing changes."""

        moved = {name: tensor.to(device=device, dtype=dtype) for name, tensor in self.tensors().items()}
        return self._with(moved)

    def only(self, feature_U: torch.Tensor) -> Self:
        """The same without the features other than these [U]; not for a TopK gate, where all compete."""
        rows = {name: tensor[feature_U] for name, tensor in self.tensors().items() if name in BY_FEATURE}
        return self._with(rows)

    def _with(self, tensors: Mapping[str, torch.Tensor]) -> Self:
        """Itself with other weights, by their plain names."""
        fields: dict[str, Any] = {FIELDS[name]: tensor for name, tensor in tensors.items()}
        return replace(self, **fields)


def from_tensors(tensors: Mapping[str, torch.Tensor], kind: Kind, k: int | None = None) -> Transcoder:
    """The reverse of `Transcoder.tensors`."""
    return Transcoder(
        tensors["W_enc"],
        tensors["b_enc"],
        tensors["W_dec"],
        tensors["b_dec"],
        tensors.get("W_skip"),
        kind=kind,
        k=k,
        threshold_F=tensors.get("threshold"),
    )


@dataclass(frozen=True, eq=False)
class TranscoderSet:
    """One transcoder per MLP, layer 0 first, all with the same width and number of features.

    With `reads` "output" they are SAEs: the same module, given the MLP's output (method §2). `meta` is what
    scx.json says (training configuration, provenance, metrics); `fingerprint` the sha256 of the weights, ""
    for a set that was never saved. Raises ScxError when the layers disagree.
    """

    layers: tuple[Transcoder, ...]
    meta: dict[str, Any] = field(default_factory=dict)
    fingerprint: str = ""
    folder: Path | None = None
    reads: Reads = "input"

    def __post_init__(self) -> None:
        shapes = [tuple(layer.W_enc_Fd.shape) for layer in self.layers]
        if not shapes:
            raise ScxError("A transcoder set has no layers.", "One transcoder per MLP layer is needed.")
        for number, shape in enumerate(shapes):
            if shape != shapes[0]:
                raise ScxError(
                    f"Layer {number} of the set is {shape} (features, width), layer 0 is {shapes[0]}.",
                    "All layers of a set have the same number of features.",
                )

    @property
    def n_features(self) -> int:
        """F of every layer."""
        return self.layers[0].n_features

    @property
    def width(self) -> int:
        """d of every layer."""
        return self.layers[0].width

    @property
    def kind(self) -> Kind:
        """The gate of the layers."""
        return self.layers[0].kind

    @property
    def name(self) -> str:
        """Short name for people."""
        return str(self.meta.get("name") or (self.folder.name if self.folder else "unsaved"))

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> TranscoderSet:
        """The set on another device or in another precision."""
        return replace(self, layers=tuple(layer.to(device, dtype) for layer in self.layers))

    @property
    def form(self) -> Form:
        """What the set is, whatever its gate."""
        return "sae" if self.reads == "output" else "transcoder"

    def need_own_decoders(self, what: str) -> None:
        """Raise ScxError where features write to other layers' outputs too, which `what` does not follow."""
        if self.form == "cross-layer":
            raise ScxError(
                f"{self.name} is a cross-layer set: {what} follow what a feature writes to its own layer.",
                "Choose a set of transcoders that write to their own layer; circuits are traced of both.",
            )

    def stand_ins(self) -> dict[int, Stand_in]:
        """Layer → callable, for `language.replaced_mlps`."""
        if self.reads == "output":
            return {layer: OnOutput(coder) for layer, coder in enumerate(self.layers)}
        return dict(enumerate(self.layers))

    def coded(
        self, inputs: Sequence[torch.Tensor], outputs: Sequence[torch.Tensor]
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Of every layer the features' activations [..., F] and the stand-in for the MLP's output [..., d].

        `inputs` and `outputs` are those of the model's own MLPs, [..., d] a layer.
        """
        for coder, x_Td in zip(self.layers, inputs if self.reads == "input" else outputs, strict=True):
            z_TF = coder.encode(x_Td)
            yield z_TF, coder.reconstruct(x_Td, z_TF)

    def coded_by_pairs(
        self, inputs: Sequence[torch.Tensor], outputs: Sequence[torch.Tensor]
    ) -> Iterator[tuple[Active, torch.Tensor]]:
        """`coded` of tokens [T, d] a layer, without gradients, with the active features instead of all."""
        for coder, x_Td in zip(self.layers, inputs if self.reads == "input" else outputs, strict=True):
            active = coder.active(x_Td)
            yield active, coder.rebuild(x_Td, active)

    def tensors(self) -> list[dict[str, torch.Tensor]]:
        """The weights of every layer."""
        return [coder.tensors() for coder in self.layers]

    def with_tensors(self, weights: Sequence[Mapping[str, torch.Tensor]]) -> TranscoderSet:
        """The set with other weights; the gates' kind stays, and what was known of the old weights goes."""
        layers = tuple(from_tensors(w, c.kind, c.k) for w, c in zip(weights, self.layers, strict=True))
        return TranscoderSet(layers, reads=self.reads)
