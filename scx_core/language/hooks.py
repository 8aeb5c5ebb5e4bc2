"""Taps: read what an MLP receives and writes, or write something else in its place.

Legend: B cells, T positions, d residual width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch.utils.hooks import RemovableHandle

from scx_core.language.loading import Language

Stand_in = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class OnOutput:
    """A stand-in that is given what the MLP puts out, not what it reads: an SAE takes this place."""

    stand_in: Stand_in

    def __call__(self, y_BTd: torch.Tensor) -> torch.Tensor:
        """What is passed on instead of the MLP's output."""
        return self.stand_in(y_BTd)


@dataclass(frozen=True)
class OnTokens:
    """A stand-in that is given the ids of the tokens at its positions [B, T], then what the MLP reads."""

    stand_in: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

    def __call__(self, x_BTd: torch.Tensor) -> torch.Tensor:
        """Only inside `replaced_mlps` are the ids known."""
        raise TypeError("an OnTokens stand-in needs the tokens' ids: use it in replaced_mlps")


class MlpIO(NamedTuple):
    """Inputs (after the norm: what the MLP really receives) and outputs of every MLP, each [B, T, d].

    `logits_BTV` is None when only the MLPs were asked for.
    """

    inputs: list[torch.Tensor]
    outputs: list[torch.Tensor]
    logits_BTV: torch.Tensor | None


def positions(mask_BT: torch.Tensor) -> torch.Tensor:
    """Position ids that start at 0 on the first real token, for left-padded batches."""
    return (mask_BT.cumsum(-1) - 1).clamp(min=0)


def forward(lm: Language, ids_BT: torch.Tensor, mask_BT: torch.Tensor, **options) -> torch.Tensor:
    """Logits [B, T, vocab] of a left-padded batch."""
    return lm.model(
        input_ids=ids_BT, attention_mask=mask_BT, position_ids=positions(mask_BT), use_cache=False, **options
    ).logits


@contextmanager
def _removed(handles: Iterable[RemovableHandle]) -> Iterator[None]:
    """Hooks that are gone at the end, whatever happens."""
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def captured_mlps(lm: Language, layers: Iterable[int] | None = None) -> Iterator[MlpIO]:
    """While active, each forward pass fills the lists with every layer's MLP input and output (or those of
    `layers`)."""
    n = lm.facts.n_layers
    io = MlpIO([torch.empty(0)] * n, [torch.empty(0)] * n, None)

    def keep(layer: int):
        def hook(_module, args, output):
            io.inputs[layer], io.outputs[layer] = args[0].detach(), output.detach()

        return hook

    wanted = range(n) if layers is None else layers
    handles = [lm.part(layer, "mlp").register_forward_hook(keep(layer)) for layer in wanted]
    with _removed(handles):
        yield io


@torch.no_grad()
def mlp_io(
    lm: Language,
    ids_BT: torch.Tensor,
    mask_BT: torch.Tensor,
    logits: bool = False,
    layers: Iterable[int] | None = None,
) -> MlpIO:
    """One forward pass; inputs and outputs of all MLPs (or those of `layers`), and the logits if wanted:
    without these it ends at the last MLP that is asked for."""
    wanted = range(lm.facts.n_layers) if layers is None else list(layers)
    with captured_mlps(lm, wanted) as io, nullcontext() if logits else _ends_at(lm, max(wanted, default=0)):
        body = lm.model if logits else lm.model.base_model
        out = body(input_ids=ids_BT, attention_mask=mask_BT, position_ids=positions(mask_BT), use_cache=False)
    return io._replace(logits_BTV=out.logits if logits else None)


@contextmanager
def _ends_at(lm: Language, last: int) -> Iterator[None]:
    """While active, a pass does nothing behind the MLP of block `last`; in a parallel block the MLP does not
    read its attention, which is left out too. What the pass puts out is nobody's then."""

    def mlp_alone(hidden_states: torch.Tensor, *_args: Any, **_options: Any) -> torch.Tensor:
        lm.part(last, "mlp")(lm.part(last, "mlp_norm")(hidden_states))
        return hidden_states

    def nothing(hidden_states: torch.Tensor, *_args: Any, **_options: Any) -> torch.Tensor:
        return hidden_states

    instead = {lm.block(layer): nothing for layer in range(last + 1, lm.facts.n_layers)}
    if lm.facts.residual == "parallel":
        instead[lm.block(last)] = mlp_alone
    with _in_place(instead):
        yield


@contextmanager
def _in_place(instead: Mapping[torch.nn.Module, Callable[..., torch.Tensor]]) -> Iterator[None]:
    """While active, these modules compute something else; hooks on them stay."""
    before = {module: module.__dict__.get("forward") for module in instead}  # another such, or a compiled one
    for module, function in instead.items():
        module.forward = function  # type: ignore[method-assign]
    try:
        yield
    finally:
        for module, own in before.items():
            if own is None:
                del module.forward
            else:
                module.forward = own  # type: ignore[method-assign]


@contextmanager
def idle_mlps(lm: Language, layers: Iterable[int]) -> Iterator[None]:
    """While active, the MLPs of these layers hand on what they receive: nobody wants the output of an MLP
    that a hook replaces, and it is two thirds of a pass."""
    with _in_place({lm.part(layer, "mlp"): _handed_on for layer in layers}):
        yield


def _handed_on(x_BTd: torch.Tensor) -> torch.Tensor:
    return x_BTd


@contextmanager
def replaced_mlps(lm: Language, stand_ins: Mapping[int, Stand_in]) -> Iterator[None]:
    """While active, the MLP of each named layer returns `stand_ins[layer](x_BTd)` and not its output y_BTd,
    `stand_ins[layer](y_BTd)` where that is an `OnOutput`, and what an `OnTokens` makes of ids and x_BTd. The
    MLP itself runs only where its output is asked for."""
    ids: list[torch.Tensor] = []

    def swap(stand_in: Stand_in):
        def hook(_module, args, output):
            if isinstance(stand_in, OnTokens):
                return stand_in.stand_in(ids[-1], args[0]).to(output.dtype)
            given = output if isinstance(stand_in, OnOutput) else args[0]
            return stand_in(given).to(output.dtype)

        return hook

    def note(_module, args):
        ids[:] = [args[0]]

    handles = [lm.part(k, "mlp").register_forward_hook(swap(f)) for k, f in stand_ins.items()]
    if any(isinstance(f, OnTokens) for f in stand_ins.values()):
        handles.append(lm.model.get_input_embeddings().register_forward_pre_hook(note))
    unasked = [k for k, f in stand_ins.items() if not isinstance(f, OnOutput)]
    with idle_mlps(lm, unasked), _removed(handles):
        yield


@contextmanager
def captured_neurons(
    lm: Language, units: int | None = None, texts: int | None = None
) -> Iterator[list[torch.Tensor]]:
    """While active, each forward pass fills the list with every layer's MLP neurons [B, T, H]: what the last
    linear map of the MLP receives. Of the first `units` neurons and `texts` texts alone, where they are
    given; the rest is not kept."""
    found = [torch.empty(0)] * lm.facts.n_layers

    def keep(layer: int):
        def hook(_module, args):
            whole_BTH = args[0].detach()
            some_BTH = whole_BTH[:texts, :, :units]
            found[layer] = whole_BTH if some_BTH.shape == whole_BTH.shape else some_BTH.clone()

        return hook

    handles = [
        lm.part(layer, "mlp_out").register_forward_pre_hook(keep(layer)) for layer in range(len(found))
    ]
    with _removed(handles):
        yield found
