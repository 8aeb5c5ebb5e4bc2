"""The frozen replacement model, part 2: one prompt's attention patterns, 1/σ, active features, errors.

After freezing, every pre-activation and every logit is an affine function of the sources (method §5).
This file holds the one forward pass that reads the constants, the transposes of attention and skip terms, and
`trace_many`: a trace is many small operations, which two threads with one core each get through faster than
one thread that shares every operation out over two cores.
Legend: T positions, L layers, H heads, k head width, d residual width, N active features of a layer,
R rows (gradients carried down together), B prompts of a batch, J last positions, V vocabulary; of an MLP, H
its neurons.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple, TypeVar

import torch

from scx_core.attribution.replacement_model import LayerMaps, Replacement
from scx_core.language import bmm, linear
from scx_core.language.patterns import (
    BY_LAYER,
    KEPT,
    KeptPattern,
    Pattern,
    RecomputedPattern,
    attention_in_blocks,
    patterns_plan,
)
from scx_core.runs.micro_batch import MicroBatch, out_of_memory
from scx_core.transcoders.cross_layer import CrossLayerSet
from scx_core.transcoders.through_mlp import ThroughMlp

MOST_PROMPTS = 8  # run together; more do not pay on a CPU
PATTERN_NUMBERS = 64_000_000  # attention weights that one batch may hold


class FrozenLayer(NamedTuple):
    """One block at one prompt. Active features are sorted by position; a gate lets a pre-activation pass
    unchanged or not at all, so `value_N` is both pre-activation and activation.

    `pattern_sum_HT`: what the rows of the pattern add up to, for what attention writes whatever the tokens
    are (`attn_bias`): 1 only in the precision of the softmax, so the sum is taken and not assumed.
    `attn_out_scale_T`, `mlp_out_scale_T`: 1/σ of the norms behind the branches, for families that have them;
    what the branch writes at a position is multiplied by it (the gains are folded into the maps).
    `gate_TH`: the gates of the MLP's neurons, where features read the MLP's output.
    `error_Td` is what reaches the residual stream: gain and 1/σ are in it.
    `pattern`: the attention pattern, kept or made again when it is read (language/patterns.py).
    """

    pattern: Pattern
    pattern_sum_HT: torch.Tensor
    attn_scale_T: torch.Tensor
    mlp_scale_T: torch.Tensor
    position_N: torch.Tensor
    feature_N: torch.Tensor
    value_N: torch.Tensor
    error_Td: torch.Tensor
    attn_out_scale_T: torch.Tensor | None = None
    mlp_out_scale_T: torch.Tensor | None = None
    gate_TH: torch.Tensor | None = None

    @property
    def pattern_HTT(self) -> torch.Tensor:
        """The whole attention pattern; of a long prompt valid until another layer's is read."""
        return self.pattern.pattern_HTT


class FrozenPrompt(NamedTuple):
    """Everything that a trace of one prompt needs. `final_scale_T` is the 1/σ of the last norm.

    `logits_JV`: the logits at the last J positions, which a target may weigh. `logit_factor_JV`: softcap(x)/x
    of each of them, frozen; None without a cap.
    """

    replacement: Replacement
    ids: tuple[int, ...]
    embedding_Td: torch.Tensor
    layers: tuple[FrozenLayer, ...]
    final_scale_T: torch.Tensor
    logits_JV: torch.Tensor
    logit_factor_JV: torch.Tensor | None = None

    @property
    def logits_V(self) -> torch.Tensor:
        """The logits at the last position."""
        return self.logits_JV[-1]

    @property
    def logit_factor_V(self) -> torch.Tensor | None:
        """softcap(x)/x at the last position."""
        return None if self.logit_factor_JV is None else self.logit_factor_JV[-1]

    @property
    def patterns(self) -> str:
        """How the attention patterns are held: `KEPT` or `BY_LAYER` of language/patterns.py."""
        return BY_LAYER if isinstance(self.layers[0].pattern, RecomputedPattern) else KEPT

    def release_patterns(self) -> None:
        """Give back the memory of a pattern that is made again when it is read; kept ones stay."""
        for layer in self.layers:
            if isinstance(layer.pattern, RecomputedPattern):
                layer.pattern.buffer.release()

    @property
    def n_positions(self) -> int:
        """T, the tokens of the prompt."""
        return len(self.ids)


class _Recorded:
    """Inputs of norms and MLPs of one forward pass, [B, T, d], and its logits in front of a soft cap."""

    def __init__(self, n_layers: int) -> None:
        self.attn_in: list[torch.Tensor] = [torch.empty(0)] * n_layers
        self.mlp_in: list[torch.Tensor] = [torch.empty(0)] * n_layers
        self.attn_out: list[torch.Tensor] = [torch.empty(0)] * n_layers
        self.x: list[torch.Tensor] = [torch.empty(0)] * n_layers
        self.y: list[torch.Tensor] = [torch.empty(0)] * n_layers
        self.final_in = torch.empty(0)
        self.uncapped_BEV = torch.empty(0)
        self.then: Callable[[int], None] | None = None

    def forget(self, layer: int) -> None:
        """Of a block that is frozen in every prompt; what nobody else holds is given back."""
        for store in (self.attn_in, self.mlp_in, self.attn_out, self.x, self.y):
            store[layer] = torch.empty(0)


@contextmanager
def _recording(rep: Replacement) -> Iterator[_Recorded]:
    """`_Recorded.then` is called behind each MLP, where one is set."""
    lm, handles = rep.lm, []
    tape = _Recorded(lm.facts.n_layers)

    def keep(store: list[torch.Tensor], layer: int):
        return lambda _module, args: store.__setitem__(layer, args[0])

    def keep_mlp(layer: int):
        def hook(_module, args, output):
            tape.x[layer], tape.y[layer] = args[0], output
            if tape.then is not None:
                tape.then(layer)

        return hook

    for layer in range(lm.facts.n_layers):
        handles.append(lm.part(layer, "attn_norm").register_forward_pre_hook(keep(tape.attn_in, layer)))
        handles.append(lm.part(layer, "mlp_norm").register_forward_pre_hook(keep(tape.mlp_in, layer)))
        handles.append(lm.part(layer, "mlp").register_forward_hook(keep_mlp(layer)))
        if rep.layers[layer].attn_post_norm:
            behind = lm.part(layer, "attn_post_norm")
            handles.append(behind.register_forward_pre_hook(keep(tape.attn_out, layer)))
    handles.append(
        lm.final_norm.register_forward_pre_hook(lambda _m, args: setattr(tape, "final_in", args[0]))
    )
    handles.append(
        lm.model.get_output_embeddings().register_forward_hook(
            lambda _m, _args, output: setattr(tape, "uncapped_BEV", output)
        )
    )
    try:
        yield tape
    finally:
        for handle in handles:
            handle.remove()


def _freeze_layer(
    rep: Replacement,
    tape: _Recorded,
    layer: int,
    b: int,
    T: int,
    pattern: Pattern,
    below: Sequence[FrozenLayer],
) -> FrozenLayer:
    """One block at prompt `b` of the batch, which has T positions; `below`: the blocks that are frozen
    already."""
    maps = rep.layers[layer]
    coder, x_Td, y_Td = maps.transcoder, tape.x[layer][b, :T], tape.y[layer][b, :T]
    active = coder.active(x_Td)
    attn_post, mlp_post = maps.attn_post_norm, maps.mlp_post_norm
    frozen = FrozenLayer(
        pattern,
        pattern.row_sums(),
        maps.attn_norm.scale(tape.attn_in[layer][b, :T]),
        maps.mlp_norm.scale(tape.mlp_in[layer][b, :T]),
        *active,
        y_Td - coder.rebuild(x_Td, active) - _crossed(rep, layer, below),
        attn_post.scale(tape.attn_out[layer][b, :T]) if attn_post else None,
        mlp_post.scale(y_Td) if mlp_post else None,
        coder.mlp.gates(x_Td) if isinstance(coder, ThroughMlp) and coder.mlp else None,
    )
    error_Td = mlp_post.fold_behind(frozen.error_Td) if mlp_post else frozen.error_Td
    # A scale is the same number on both sides: source vectors take it as gradients do.
    return frozen._replace(error_Td=mlp_read(frozen, error_Td))


def _crossed(rep: Replacement, layer: int, below: Sequence[FrozenLayer]) -> torch.Tensor | float:
    """What features of earlier blocks write to this MLP's output, in front of a norm behind it, [T, d]."""
    if not isinstance(rep.transcoders, CrossLayerSet):
        return 0.0
    crossed: torch.Tensor | float = 0.0
    for m, f in enumerate(below):
        W_Fd = rep.transcoders.cross[m][layer - m - 1]
        counts_T = torch.bincount(f.position_N, minlength=len(f.attn_scale_T))
        crossed = crossed + torch.nn.functional.embedding_bag(
            f.feature_N, W_Fd, counts_T.cumsum(0) - counts_T, per_sample_weights=f.value_N, mode="sum"
        )
    return crossed


def _cap_factor(logits: torch.Tensor, uncapped: torch.Tensor) -> torch.Tensor:
    """softcap(x)/x, which tends to 1 at x = 0."""
    return torch.where(uncapped == 0, 1.0, logits / uncapped)


def freeze(rep: Replacement, ids: Sequence[int], logits: int = 1) -> FrozenPrompt:
    """Run the original model once on a prompt (no padding, no BOS) and freeze what depends on it.

    `logits`: at how many of the last positions the logits are kept.
    """
    return _freeze_batch(rep, [ids], logits)[0]


def freeze_many(
    rep: Replacement, prompts: Sequence[Sequence[int]], logits: int = 1
) -> Iterator[FrozenPrompt]:
    """`freeze` of each prompt, run in batches that the patterns' memory bounds; in the order given."""
    facts, micro = rep.lm.facts, MicroBatch(units="prompts")
    first = 0

    def attempt(size: int) -> list[FrozenPrompt]:
        return _freeze_batch(rep, prompts[first : first + size], logits)

    while first < len(prompts):
        length = max(len(ids) for ids in prompts[first : first + MOST_PROMPTS])
        patterns = facts.n_layers * facts.n_heads * length**2
        size = max(1, min(MOST_PROMPTS, PATTERN_NUMBERS // patterns, len(prompts) - first))
        found = micro.run(attempt, size)
        first += len(found)
        yield from found


def _freeze_batch(rep: Replacement, prompts: Sequence[Sequence[int]], logits: int) -> list[FrozenPrompt]:
    """With the patterns as planned; of one prompt that does not fit, made again when they are read."""
    plan = patterns_plan(rep.lm, max(map(len, prompts)))
    try:
        return _freeze_as(plan, rep, prompts, logits)
    except RuntimeError as error:
        if len(prompts) > 1 or plan == BY_LAYER or not out_of_memory(error):
            raise
    print(f"out of memory: attention patterns are {BY_LAYER}", file=sys.stderr, flush=True)
    return _freeze_as(BY_LAYER, rep, prompts, logits)


@torch.no_grad()
def _freeze_as(
    plan: str, rep: Replacement, prompts: Sequence[Sequence[int]], logits: int
) -> list[FrozenPrompt]:
    """Shorter prompts are padded at the end, with any token: a causal model never attends to it."""
    lm, lengths = rep.lm, [len(ids) for ids in prompts]
    rows = [[*ids, *[0] * (max(lengths) - len(ids))] for ids in prompts]
    ids_BT = torch.tensor(rows, device=lm.device)
    ends = sorted({end for length in lengths for end in range(max(0, length - logits), length)})
    keep = torch.tensor(ends, device=lm.device)
    found: list[list[FrozenLayer]] = [[] for _ in prompts]
    embedding_BTd = torch.empty(0)

    def freeze_block(layer: int, pattern_of: Callable[[int, int], Pattern]) -> None:
        nonlocal embedding_BTd
        embedding_BTd = tape.attn_in[0] if layer == 0 else embedding_BTd
        for b, T in enumerate(lengths):
            found[b].append(_freeze_layer(rep, tape, layer, b, T, pattern_of(b, T), found[b]))
        tape.forget(layer)

    with _recording(rep) as tape:
        out = _run(plan, rep, ids_BT, keep, tape, freeze_block)
    prompts_found = []
    for b, (ids, T) in enumerate(zip(prompts, lengths, strict=True)):
        at_J = [ends.index(end) for end in range(max(0, T - logits), T)]
        logits_JV, uncapped_JV = out.logits[b, at_J], tape.uncapped_BEV[b, at_J]
        factor_JV = None if lm.facts.logit_cap is None else _cap_factor(logits_JV, uncapped_JV)
        scale_T = rep.final_norm.scale(tape.final_in[b, :T])
        parts = tuple(found[b]), scale_T, logits_JV, factor_JV
        prompts_found.append(FrozenPrompt(rep, tuple(ids), embedding_BTd[b, :T], *parts))
    return prompts_found


def _run(
    plan: str,
    rep: Replacement,
    ids_BT: torch.Tensor,
    keep: torch.Tensor,
    tape: _Recorded,
    freeze_block: Callable[[int, Callable[[int, int], Pattern]], None],
) -> Any:
    """The forward pass, and `freeze_block` of every block in turn, with what gives its pattern at a prompt of
    the batch: at the end, or, of a long prompt, as soon as the pass is through it."""
    lm = rep.lm
    options: dict[str, Any] = {"input_ids": ids_BT, "use_cache": False, "logits_to_keep": keep}
    if plan == BY_LAYER:
        with attention_in_blocks(lm) as recorded:
            tape.then = lambda layer: freeze_block(
                layer, lambda b, T: recorded.of_prompt(layer, b, T, lm.dtype)
            )
            return lm.model(**options)
    out = lm.model(**options, output_attentions=True)
    for layer, pattern_BHTT in enumerate(out.attentions):
        freeze_block(layer, partial(_kept, pattern_BHTT, lm.dtype))
    return out


def _kept(pattern_BHTT: torch.Tensor, dtype: torch.dtype, b: int, T: int) -> KeptPattern:
    return KeptPattern(pattern_BHTT[b, :, :T, :T].to(dtype))


def _times(scale_T: torch.Tensor | None, G_Pd: torch.Tensor, position_R: torch.Tensor | None) -> torch.Tensor:
    if scale_T is None:
        return G_Pd
    at = scale_T[: G_Pd.shape[-2]] if position_R is None else scale_T[position_R]
    return G_Pd * at[:, None]


def mlp_read(frozen: FrozenLayer, G: torch.Tensor, position_R: torch.Tensor | None = None) -> torch.Tensor:
    """Gradients on the residual stream become gradients on the MLP's output (behind the gain).

    `G` is [..., P, d] for the first P positions, or [R, d] with the position of each row. The same tensor
    comes back where no norm stands behind the MLP. `dec_Fd`, `dec_bias_d` and `skip_dd` take the result;
    `error_Td` takes `G` itself.
    """
    return _times(frozen.mlp_out_scale_T, G, position_R)


def attn_read(frozen: FrozenLayer, G: torch.Tensor, position_R: torch.Tensor | None = None) -> torch.Tensor:
    """`mlp_read` for attention: `O_Hkd` takes the result, `attn_bias_Td` takes `G` itself."""
    return _times(frozen.attn_out_scale_T, G, position_R)


def attn_bias(maps: LayerMaps, frozen: FrozenLayer, position_R: torch.Tensor | None = None) -> torch.Tensor:
    """What attention adds to the residual stream whatever the tokens are (see LayerMaps), at every position
    [T, d] or at those of some rows [R, d]: few products, instead of one more tensor a layer."""
    sum_HR = frozen.pattern_sum_HT if position_R is None else frozen.pattern_sum_HT[:, position_R]
    return attn_read(frozen, sum_HR.T @ maps.value_bias_Hd + maps.out_bias_d, position_R)


def mlp_back(
    maps: LayerMaps, frozen: FrozenLayer, read_Rd: torch.Tensor, position_R: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradients on what features read (the MLP's input behind the norm's gain, or its output) become
    gradients on the stream in front of the norm, [R, d], with the share of the MLP's own biases, [R].

    Rows are those of all positions, or stand at `position_R`. Without an MLP in between the bias is 0: that
    of the norm is in `enc_bias_F`.
    """
    if maps.through is None:
        return _times(frozen.mlp_scale_T, read_Rd, position_R), read_Rd.new_zeros(len(read_Rd))
    assert frozen.gate_TH is not None  # frozen with the MLP
    gate_RH = frozen.gate_TH if position_R is None else frozen.gate_TH[position_R]
    neuron_RH = linear(read_Rd, maps.through.W_out_Hd) * gate_RH
    below_Rd = _times(frozen.mlp_scale_T, linear(neuron_RH, maps.through.W_in_Hd.T), position_R)
    return below_Rd, neuron_RH @ maps.through.b_in_H


def feature_reads(
    maps: LayerMaps, frozen: FrozenLayer, feature_R: torch.Tensor, position_R: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """What features at positions read: gradients of their pre-activations on the stream in front of the norm,
    [R, d], and their biases [R]."""
    gradient_Rd, bias_R = mlp_back(maps, frozen, maps.reads(feature_R), position_R)
    return gradient_Rd, maps.enc_bias_F[feature_R] + bias_R


def feature_writes(maps: LayerMaps, frozen: FrozenLayer) -> torch.Tensor:
    """What every active feature adds to the residual stream at its position, z·W_dec, [N, d]."""
    return mlp_read(frozen, maps.dec_Fd[frozen.feature_N] * frozen.value_N[:, None], frozen.position_N)


def attention_back(maps: LayerMaps, frozen: FrozenLayer, G_RTd: torch.Tensor) -> torch.Tensor:
    """Transpose of frozen attention: gradients on the residual stream that it writes to become read
    vectors on the stream that it reads.

    `G_RTd` may stop at a position P ≤ T; positions after P cannot be reached (causal mask).
    """
    R, n_positions, _ = G_RTd.shape
    heads, width, d = maps.O_Hkd.shape
    value_RTX = linear(attn_read(frozen, G_RTd), maps.O_Hkd.reshape(heads * width, d))
    value_RTHk = value_RTX.unflatten(-1, (heads, width))
    # One product a head over all rows: broadcast over rows, the patterns would be copied for each of them.
    value_HTX = value_RTHk.permute(2, 1, 0, 3).reshape(heads, n_positions, R * width)
    back_HTX = bmm(frozen.pattern.up_to(n_positions).transpose(1, 2), value_HTX)
    back_RTHk = back_HTX.view(heads, n_positions, R, width).permute(2, 1, 0, 3)
    back_RTd = linear(back_RTHk.flatten(2), maps.V_Hkd.reshape(heads * width, d).T)
    return back_RTd * frozen.attn_scale_T[:n_positions, None]


def skip_back(
    maps: LayerMaps, frozen: FrozenLayer, G: torch.Tensor, position_R: torch.Tensor | None = None
) -> torch.Tensor:
    """Transpose of the transcoder's skip term (zero where there is none), on the stream the MLP reads.

    `G` is on the residual stream, as in `mlp_read`.
    """
    if maps.skip_dd is None:
        return torch.zeros_like(G)
    return _times(frozen.mlp_scale_T, linear(mlp_read(frozen, G, position_R), maps.skip_dd.T), position_R)


Found = TypeVar("Found")
AT_ONCE = 4  # prompts that one thread freezes together
WORKERS = 4  # threads, at most: the model itself is run by one at a time


@contextmanager
def _one_core_each() -> Iterator[int]:
    """How many threads pay on this computer, each of which has one core inside."""
    cores = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield min(cores, WORKERS)
    finally:
        torch.set_num_threads(cores)


def trace_many(
    rep: Replacement,
    prompts: Sequence[Sequence[int]],
    trace: Callable[[int, FrozenPrompt], Found],
    logits: int = 1,
) -> Iterator[Found]:
    """`trace(number, frozen)` of every prompt, in order. On a GPU one by one, and so where one prompt fills
    the memory that several may take. `logits`: see freeze."""
    facts, longest = rep.lm.facts, max(map(len, prompts), default=0)
    if rep.lm.device.type != "cpu" or facts.n_layers * facts.n_heads * longest**2 > PATTERN_NUMBERS:
        yield from (trace(i, frozen) for i, frozen in enumerate(freeze_many(rep, prompts, logits)))
        return
    model = threading.Lock()  # the model's insides are read by hooks, which would record every thread

    def some(first: int) -> list[Found]:
        torch.set_num_threads(1)  # OpenMP keeps this number for each thread
        with model:
            frozen = list(freeze_many(rep, prompts[first : first + AT_ONCE], logits))
        return [trace(i, one) for i, one in enumerate(frozen, first)]

    with _one_core_each() as workers, ThreadPoolExecutor(workers) as pool:
        for found in pool.map(some, range(0, len(prompts), AT_ONCE)):
            yield from found
