"""How a step is carried out: by which processes, in how large micro-batches, in which precision.

A micro-batch bounds what grows with the number of tokens in a step: the model's forward pass and one layer's
pre-activations with their gradients. Everything that couples tokens (BatchTopK's threshold, scales, counts)
stays over the whole batch, so the result is the same to the order of float32 sums. Its size is chosen by
itself, and halved when the memory does not suffice.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import psutil
import torch

from scx_core.errors import ScxError
from scx_core.language import Language, forward, rounded_products
from scx_core.runs.micro_batch import MicroBatch, out_of_memory
from scx_core.training.config import TrainConfig, TranscoderConfig
from scx_core.training.processes.distributed import ALONE, Team
from scx_core.training.tokens import Cells, TokenTexts

TRIAL_CELLS, TRIAL_TOKENS, TRIALS = 4, 16, 3
USABLE = 0.7  # of the free memory
# Float32 values a token and unit of width that are alive at the peak: in a block of the model (attention,
# an MLP four times as wide), and for each feature a width (pre-activations, gates, gradients).
BLOCK_VALUES, FEATURE_VALUES = 24, 6
STATE_BYTES = 16  # a float32 weight, its gradient, and Adam's two moments
COUNTED = 2**31 - 1  # entries of a matrix that a graphics card can look for non-zero ones in
REMEDY = (
    "Use fewer features (expansion), shorter sentences, or more devices that share out the layers (parallel: "
    "layers)."
)


@contextmanager
def memory_in_words() -> Iterator[None]:
    """Raises ScxError for memory that ends inside, where no smaller micro-batch would help."""
    try:
        yield
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
        raise ScxError(
            f"The device's memory does not suffice: {str(error).splitlines()[0][:200]}",
            "The last checkpoint is kept. Free the device for this run, or start one with fewer cells in a "
            "step, fewer features (expansion), or devices that share out the layers (parallel: layers).",
        ) from error


def training_batch(cells: int | None = None) -> MicroBatch:
    """A micro-batch of a training, which says what helps there."""
    return MicroBatch(cells, f"The last checkpoint is kept. {REMEDY}")


def weights_of(cfg: TranscoderConfig, d: int, layers: int) -> int:
    """Trained weights of so many layers."""
    later = layers * (layers - 1) // 2 if cfg.form == "cross-layer" else 0
    layer = cfg.expansion * d * (2 * d + 1) + d + (d * d if cfg.skip else 0)
    return layers * layer + later * cfg.expansion * d * d


def choose_cells(
    lm: Language, cfg: TranscoderConfig, wish: int, cells: int, tokens: int, layers: int
) -> int | None:
    """The micro-batch of a step of `cells` cells with `tokens` tokens on `layers` layers: the wish, or for 0
    what fits into the memory of a graphics card that weights and optimiser will leave free; on a processor
    None, the whole step."""
    if wish or lm.device.type != "cuda":
        return wish or None
    d = lm.facts.width
    kept = 2 * 4 * tokens * d * layers  # inputs and outputs of their MLPs, whole batch
    kept += STATE_BYTES * weights_of(cfg, d, layers)
    at_once = layers if cfg.form == "cross-layer" else 1
    a_cell = 4 * (tokens / cells) * d * (BLOCK_VALUES + FEATURE_VALUES * cfg.expansion * at_once)
    free = USABLE * torch.cuda.mem_get_info(lm.device)[0] - kept
    countable = COUNTED * cells / (tokens * cfg.expansion * d)
    return int(min(cells, max(1, min(free // a_cell, countable))))


def slices(n: int, parts: int) -> Iterator[slice]:
    """`n` things in `parts` even pieces; empty ones are left out."""
    ends = [n * part // parts for part in range(parts + 1)]
    return (slice(a, b) for a, b in pairwise(ends) if b > a)


@dataclass
class StepPlan:
    """`shared_layers`: each process trains its own layers, on all cells; otherwise all layers, on its part of
    the cells. `bfloat16`: of the model's forward pass; the transcoders' weights are always float32."""

    team: Team = ALONE
    shared_layers: bool = False
    micro: MicroBatch = field(default_factory=MicroBatch)
    bfloat16: bool = False

    @property
    def partners(self) -> Team:
        """Those who have other tokens of the same layer."""
        return ALONE if self.shared_layers else self.team

    @property
    def state(self) -> dict[str, Any]:
        """What a resumed run must do as it was done before."""
        precision = "bfloat16" if self.bfloat16 else "float32"
        return {"precision": precision, "micro_batch_cells": self.micro.cells or 0}

    def own(self, n_layers: int) -> list[int]:
        """The layers that are trained here."""
        return self.team.own(n_layers) if self.shared_layers else list(range(n_layers))

    def cast(self, lm: Language) -> AbstractContextManager[object]:
        """The precision of the model's forward pass, inside."""
        return torch.autocast(lm.device.type, torch.bfloat16) if self.bfloat16 else nullcontext()

    @contextmanager
    def products(self, device: torch.device) -> Iterator[None]:
        """Inside, the transcoders' own matrix products take their factors as TensorFloat-32 (10 bits of
        mantissa), where the model's are bfloat16 on a graphics card: in full float32 they would be several
        times slower than all the rest. Weights, sums and gradients stay float32."""
        with rounded_products(device) if self.bfloat16 else nullcontext():
            yield

    def report(self, rows: torch.Tensor) -> torch.Tensor:
        """The rows of all layers, from those of one's own [layers, …]."""
        return self.team.gathered(rows) if self.shared_layers else rows


def check_team(cfg: TranscoderConfig, processes: int) -> None:
    """Raises ScxError where a set of this form cannot be trained by so many processes."""
    if processes > 1 and cfg.form == "cross-layer":
        raise ScxError(
            "Cross-layer transcoders are trained in one process: their layers need each other's errors.",
            "Set processes to 1, and start without torchrun.",
        )


def make_plan(
    lm: Language,
    texts: TokenTexts,
    cfg: TranscoderConfig,
    train: TrainConfig,
    team: Team,
    before: Mapping[str, Any] | None = None,
) -> StepPlan:
    """What the settings ask for, here; of a resumed run what it did `before` (`StepPlan.state`).

    Raises ScxError for fewer cells or layers than processes, and where these cannot share this form of set.
    """
    check_team(cfg, team.size)
    cells = min(train.cells_per_batch, texts.n_cells)
    layers = train.parallel == "layers" or (train.parallel == "auto" and too_large(lm, cfg, team))
    if team.size > 1 and not layers and cells < team.size:
        raise ScxError(
            f"{team.size} processes cannot share out {cells} cells a step.",
            "Raise cells_per_batch, or start fewer processes.",
        )
    plan = StepPlan(team, layers and team.size > 1)
    layers_here = len(plan.own(lm.facts.n_layers))
    here = cells if plan.shared_layers else -(-cells // team.size)
    tokens = round(here * len(texts.ids) / texts.n_cells)
    before = before or {}
    wish = train.micro_batch_cells or before.get("micro_batch_cells", 0)
    plan.micro = training_batch(choose_cells(lm, cfg, wish, here, tokens, layers_here))
    precision = before.get("precision") or choose_precision(lm, texts, train.precision, team)
    plan.bfloat16 = precision == "bfloat16"
    return plan


def too_large(lm: Language, cfg: TranscoderConfig, team: Team) -> bool:
    """Whether weights and optimiser of all layers would not fit beside each of these processes."""
    if team.size == 1:
        return False
    if lm.device.type == "cuda":
        free = float(torch.cuda.mem_get_info(lm.device)[0])
    else:
        free = psutil.virtual_memory().available / team.size
    weights = weights_of(cfg, lm.facts.width, lm.facts.n_layers)
    return team.any(STATE_BYTES * weights > USABLE * free)


def choose_precision(lm: Language, texts: TokenTexts, wish: str, team: Team) -> str:
    """ "float32" or "bfloat16" of the model's forward pass, the same for all processes.

    auto: bfloat16 on a graphics card that has it; float32 on a processor, where a run then gives the same
    bits with these instructions and without. fastest: what a trial of a few cells finds.
    """
    if wish == "auto":
        has = lm.device.type == "cuda" and torch.cuda.is_bf16_supported()
        return team.text("bfloat16" if has else "float32")
    if wish == "fastest":
        return team.text("bfloat16" if _faster(lm, texts) else "float32")
    return wish


@contextmanager
def compiled(lm: Language, wanted: bool) -> Iterator[None]:
    """Attention and MLP of each block compiled, inside. Only their `forward`: the hooks that read them are
    called around it, and may come and go.

    Raises ScxError where PyTorch cannot compile.
    """
    parts = [lm.part(layer, name) for layer in range(lm.facts.n_layers) for name in ("attn", "mlp")]
    for part in parts if wanted else ():
        part.forward = torch.compile(part.forward, dynamic=True)
    try:
        if wanted:
            _try_out(lm)
        yield
    finally:
        for part in parts if wanted else ():
            del part.forward  # the class has its own


@torch.no_grad()
def _try_out(lm: Language) -> None:
    ids_BT = torch.full((2, TRIAL_TOKENS), lm.eos_id, device=lm.device)
    try:
        forward(lm, ids_BT, torch.ones_like(ids_BT))
    except RuntimeError as error:
        raise ScxError(
            f"The model could not be compiled: {str(error).splitlines()[0][:200]}",
            "Train without compile; it needs a C++ compiler, and Triton on a graphics card.",
        ) from error


def memory_of(device: torch.device) -> int:
    """Bytes that this process holds on the device; of a processor, in all."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    return int(psutil.Process().memory_info().rss)


def has_bfloat16(device: torch.device) -> bool:
    """Whether the device computes in bfloat16 itself."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    # Without these instructions a processor only emulates it, many times slower.
    known: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()  # an old PyTorch does not say
    return bool(known.get("avx512_bf16") or known.get("amx_bf16"))


def _faster(lm: Language, texts: TokenTexts) -> bool:
    if not has_bfloat16(lm.device):
        return False
    cells = range(min(TRIAL_CELLS, texts.n_cells))
    return _seconds(lm, texts, cells, StepPlan(bfloat16=True)) < _seconds(lm, texts, cells, StepPlan())


@torch.no_grad()
def _seconds(lm: Language, texts: TokenTexts, cells: Cells, plan: StepPlan) -> float:
    """The shortest of a few forward passes."""
    batch = texts.batch(lm, cells)

    def once() -> float:
        since = time.perf_counter()
        with plan.cast(lm):
            forward(lm, *batch)
        if lm.device.type == "cuda":
            torch.cuda.synchronize(lm.device)
        return time.perf_counter() - since

    return min([once() for _ in range(TRIALS + 1)][1:])
