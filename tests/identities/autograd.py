"""Edges and total effects of any family by plain autograd through Hugging Face's own forward pass.

An implementation apart from the tracer, with no code of `scx_core.circuits`: the model's modules run as they
are, but norms divide by a number kept from the original run, attention uses the patterns kept from it, and
each MLP is z·W_dec + b_dec (+ W_skip·x) + error with z and error as leaves. A row of edges is then the
gradient of a pre-activation or of the target, times the leaves (method §5).
Legend: L layers, T positions, d residual width, F features, V vocabulary, R rows, C chosen features.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

import torch
from transformers import AttentionInterface

STORED = "scx_stored_patterns"


def _stored_attention(module, query, key, value, attention_mask, **_):
    pattern = module.stored_pattern
    shared = pattern.shape[1] // value.shape[1]
    mixed = pattern @ value.repeat_interleave(shared, 1)
    return mixed.transpose(1, 2), pattern


AttentionInterface.register(STORED, _stored_attention)


class Leaves(NamedTuple):
    """The sources: z [T, F] and error [T, d] of each layer, and the stream that enters block 0, [T, d]."""

    z: list[torch.Tensor]
    error: list[torch.Tensor]
    embedding: torch.Tensor

    def flat(self) -> list[torch.Tensor]:
        return [*self.z, *self.error, self.embedding]

    def emptied(self) -> Leaves:
        """Leaves with nothing in them: what is left of a row then is its bias."""
        z, error = ([torch.zeros_like(x) for x in part] for part in (self.z, self.error))
        return Leaves(z, error, torch.zeros_like(self.embedding))

    def copy(self) -> Leaves:
        """Fresh leaves with the same values, ready for a gradient."""
        z, error = ([x.clone().requires_grad_() for x in part] for part in (self.z, self.error))
        return Leaves(z, error, self.embedding.clone().requires_grad_())


class Rows(NamedTuple):
    """Signed edges of one row: z [L, T, F], error [L, T], token [T], bias, and the row's value."""

    z: torch.Tensor
    error: torch.Tensor
    token: torch.Tensor
    bias: float
    value: float


def _gate(coder, pre_TF: torch.Tensor) -> torch.Tensor:
    """Which features are open, 0 or 1."""
    open_TF = pre_TF > 0
    if coder.kind == "jumprelu":
        open_TF = pre_TF > coder.threshold_F
    if coder.kind == "topk":
        open_TF = open_TF & (pre_TF >= pre_TF.topk(coder.k, -1).values[:, -1:])
    return open_TF.to(pre_TF.dtype)


@contextmanager
def _hook(handle) -> Iterator[None]:
    """A hook that is there for a while."""
    try:
        yield
    finally:
        handle.remove()


def _returning(module, forward):
    """For a while, a module returns `forward` of its input. Later hooks win over earlier ones."""
    return _hook(module.register_forward_hook(lambda _m, args, _output: forward(args[0])))


class Frozen:
    """One prompt of one model, frozen. `run` computes all pre-activations and the logits from leaves."""

    def __init__(self, model, coders: Sequence, ids: Sequence[int]) -> None:
        self.model, self.coders = model, coders
        self.ids = torch.tensor([list(ids)])
        self.head = model.get_output_embeddings()
        self.mlps = [m for m in model.modules() if type(m).__name__.endswith("MLP")]
        self.attentions = [m for m in model.modules() if type(m).__name__.endswith("Attention")]
        self.first = next(m for m in model.modules() if isinstance(m, torch.nn.ModuleList))[0]
        # Norms of queries and keys only shape the patterns, which are kept.
        self.norms = [
            m
            for name, m in model.named_modules()
            if "Norm" in type(m).__name__ and not name.endswith(("q_norm", "k_norm"))
        ]
        assert len(self.mlps) == len(self.attentions) == len(coders)
        self._keep_constants()

    def _keep_constants(self) -> None:
        seen: dict = {}

        def keep(module, args, output):
            seen[module] = (args[0][0], output[0])

        def keep_start(_module, args, kwargs):
            seen["start"] = (args[0] if args else kwargs["hidden_states"])[0]

        with ExitStack() as hooks, torch.no_grad():
            for module in (*self.norms, *self.mlps, self.head):
                hooks.enter_context(_hook(module.register_forward_hook(keep)))
            hooks.enter_context(_hook(self.first.register_forward_pre_hook(keep_start, with_kwargs=True)))
            out = self.model(self.ids, output_attentions=True, use_cache=False)
        self.logits_TV, self.patterns = out.logits[0], out.attentions
        self.logits_V = self.logits_TV[-1]
        self.cap_TV = self.logits_TV / seen[self.head][1]
        self.spread = {m: _spread(m, seen[m][0]) for m in self.norms}
        z, error, self.gates = [], [], []
        for mlp, coder in zip(self.mlps, self.coders, strict=True):
            x_Td, y_Td = seen[mlp]
            pre_TF = x_Td @ coder.W_enc_Fd.T + coder.b_enc_F
            self.gates.append(_gate(coder, pre_TF))
            z.append(pre_TF * self.gates[-1])
            error.append(y_Td - _decode(coder, z[-1], x_Td))
        self.leaves = Leaves(z, error, seen["start"])

    @contextmanager
    def _replaced(self, leaves: Leaves, pres: list, responses: list | None) -> Iterator[None]:
        """The model's own modules, with the frozen ones in place. `responses` collects z that follow pre."""
        before = self.model.config._attn_implementation
        with ExitStack() as hooks:
            for norm in self.norms:
                hooks.enter_context(_returning(norm, _frozen_norm(norm, self.spread[norm])))
            for k, mlp in enumerate(self.mlps):
                hooks.enter_context(_returning(mlp, self._stand_in(k, leaves, pres, responses)))
            for attention, pattern in zip(self.attentions, self.patterns, strict=True):
                attention.stored_pattern = pattern
            start = _starting_at(leaves.embedding)
            hooks.enter_context(_hook(self.first.register_forward_pre_hook(start, with_kwargs=True)))
            self.model.config._attn_implementation = STORED
            try:
                yield
            finally:
                self.model.config._attn_implementation = before

    def _stand_in(self, k: int, leaves: Leaves, pres: list, responses: list | None):
        coder = self.coders[k]

        def forward(x_1Td):
            pre_TF = x_1Td[0] @ coder.W_enc_Fd.T + coder.b_enc_F
            pres.append(pre_TF)
            z_TF = leaves.z[k]
            if responses is not None:
                z_TF = pre_TF * self.gates[k]
                responses.append(z_TF)
            return (_decode(coder, z_TF, x_1Td[0]) + leaves.error[k])[None]

        return forward

    def run(
        self, leaves: Leaves, responses: list | None = None, grad: bool = False
    ) -> tuple[list[torch.Tensor], torch.Tensor]:
        """Pre-activations [T, F] of each layer and the logits [V] at the last position, caps frozen."""
        pres, logits_TV = self.run_everywhere(leaves, responses, grad)
        return pres, logits_TV[-1]

    def run_everywhere(
        self, leaves: Leaves, responses: list | None = None, grad: bool = False
    ) -> tuple[list[torch.Tensor], torch.Tensor]:
        """`run` with the logits at every position, [T, V]."""
        pres: list[torch.Tensor] = []
        found: list[torch.Tensor] = []
        taken = self.head.register_forward_hook(lambda _m, _args, output: found.append(output[0]))
        with _hook(taken), self._replaced(leaves, pres, responses), torch.set_grad_enabled(grad):
            self.model(self.ids, use_cache=False)
        return pres, found[0] * self.cap_TV

    def rows(self, wanted: Sequence[tuple[int, int, int]], weight: torch.Tensor) -> Iterator[Rows]:
        """Edges into the pre-activations (layer, position, feature) `wanted`, then into weight · logits:
        `weight` is [V] for the last position, [J, V] for the last J."""
        leaves = self.leaves.copy()
        pres, logits_TV = self.run_everywhere(leaves, grad=True)
        bare_pres, bare_TV = self.run_everywhere(self.leaves.emptied())
        values = [(pres[k][t, i], bare_pres[k][t, i]) for k, t, i in wanted]
        values.append((weighed(weight, logits_TV), weighed(weight, bare_TV)))
        flat = leaves.flat()
        n = len(leaves.z)
        for value, bias in values:
            grads = torch.autograd.grad(value, flat, retain_graph=True, allow_unused=True)
            edge = [torch.zeros_like(x) if g is None else g * x for g, x in zip(grads, flat, strict=True)]
            edge = [x.detach() for x in edge]
            value = value.detach()
            error_LT = torch.stack(edge[n : 2 * n]).sum(-1)
            yield Rows(torch.stack(edge[:n]), error_LT, edge[-1].sum(-1), float(bias), float(value))

    def total_effects(self, weight: torch.Tensor) -> Rows:
        """Effects on weight · logits over all paths, features following their pre-activations."""
        leaves, responses = self.leaves.copy(), []
        value = weighed(weight, self.run_everywhere(leaves, responses, grad=True)[1])
        n = len(leaves.z)
        flat = [*responses, *leaves.error, leaves.embedding]
        grads = torch.autograd.grad(value, flat)
        edge = [(g * x).detach() for g, x in zip(grads, flat, strict=True)]
        error_LT, token_T = torch.stack(edge[n : 2 * n]).sum(-1), edge[-1].sum(-1)
        value = value.detach()
        bias = float(value - error_LT.sum() - token_T.sum())
        return Rows(torch.stack(edge[:n]), error_LT, token_T, bias, float(value))


def weighed(weight: torch.Tensor, logits_TV: torch.Tensor) -> torch.Tensor:
    """weight · logits at the last position ([V]) or at the last J ([J, V])."""
    weight_JV = weight.reshape(-1, weight.shape[-1])
    return (weight_JV * logits_TV[len(logits_TV) - len(weight_JV) :]).sum()


def _decode(coder, z_TF, x_Td):
    y_Td = z_TF @ coder.W_dec_Fd + coder.b_dec_d
    return y_Td if coder.W_skip_dd is None else y_Td + x_Td @ coder.W_skip_dd.T


def _spread(norm, x_Td: torch.Tensor) -> torch.Tensor:
    """σ of each position, [T, 1]."""
    if isinstance(norm, torch.nn.LayerNorm):
        return (x_Td.var(-1, unbiased=False, keepdim=True) + norm.eps).sqrt()
    eps = norm.eps if hasattr(norm, "eps") else norm.variance_epsilon
    return (x_Td.pow(2).mean(-1, keepdim=True) + eps).sqrt()


def _frozen_norm(norm, spread_T1: torch.Tensor):
    if isinstance(norm, torch.nn.LayerNorm):
        return lambda x: (x - x.mean(-1, keepdim=True)) / spread_T1 * norm.weight + norm.bias
    gain_d = 1 + norm.weight if type(norm).__name__.startswith("Gemma") else norm.weight
    return lambda x: x / spread_T1 * gain_d


def _starting_at(embedding_Td: torch.Tensor):
    def hook(_module, args, kwargs):
        if args:
            return (embedding_Td[None], *args[1:]), kwargs
        return args, kwargs | {"hidden_states": embedding_Td[None]}

    return hook
