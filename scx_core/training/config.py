"""Settings of transcoders and of their training, what they come to at each step, and the presets."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from scx_core.cells import CellChoices
from scx_core.errors import ScxError
from scx_core.runs.options import check, option
from scx_core.sentences import SentenceConfig
from scx_core.transcoders.module import Form, Reads, Writes


@dataclass(frozen=True)
class TranscoderConfig:
    """What is trained (method §2)."""

    kind: Literal["batchtopk", "topk", "jumprelu", "relu"] = option(
        "batchtopk",
        "Which features may be active: batchtopk (k a token on average, saved as JumpReLU), topk (k for each "
        "token), jumprelu (above a threshold that each feature learns), relu (as many as the L1 penalty "
        "leaves)",
    )
    reads: Reads = option(
        "input",
        "What is encoded: input (of the MLP: a transcoder, which stands in for it), output (of the MLP: an "
        "SAE, for comparison: traced only beside transcoders, in `scx evidence rivals`)",
    )
    writes: Writes = option(
        "own",
        "Where features write: own (the output of their layer's MLP), later (those of all later MLPs too: "
        "cross-layer transcoders, one encoder a layer)",
    )
    expansion: int = option(
        8, "Features per layer, as a multiple of the residual width", minimum=1, maximum=256
    )
    k: int = option(
        15, "Active features a token (batchtopk: on average, topk: at most; relu ignores it)", minimum=1
    )
    target_l0: float = option(
        0.0,
        "Active features a token that relu and jumprelu are held at, by a controller of their penalty (0: "
        "the penalty stays as it is given; batchtopk and topk have k instead). It takes some hundred steps",
        minimum=0.0,
    )
    l1: float = option(1.4e-4, "Weight of the L1 penalty on feature activations (relu only)", minimum=0.0)
    l0: float = option(
        1e-3, "Weight of the penalty on the number of active features (jumprelu only)", minimum=0.0
    )
    skip: bool = option(False, "Add an affine path from MLP input to output beside the features")
    normalise: bool = option(
        True, "Centre and scale inputs and outputs while training; the saved weights work on raw activations"
    )
    error: Literal["squared", "relative"] = option(
        "squared", "Error term: squared ‖y−ŷ‖², or relative mean((y−ŷ)²/‖y‖) as in the method's first code"
    )

    def __post_init__(self) -> None:
        check(self)
        if self.target_l0 and self.kind in ("batchtopk", "topk"):
            raise ScxError(
                f"{self.kind} has no penalty that a target_l0 of {self.target_l0:g} could be held by: it has "
                f"k active features a token (k is {self.k}).",
                f"Give k {max(1, round(self.target_l0))} and no target_l0, or train jumprelu or relu.",
            )
        if self.reads == "output" and self.writes == "later":
            raise ScxError(
                "An SAE gives back the output that it reads: it cannot write to later ones.",
                "Read the input (--reads input), or write to the layer's own output (--writes own).",
            )
        if self.reads == "output" and self.skip:
            raise ScxError(
                "An SAE has no affine path: from the MLP's output to itself it would need no features.",
                "Turn skip off (--no-skip), or read the MLP's input.",
            )

    @property
    def form(self) -> Form:
        """What is trained, whatever its gate."""
        if self.writes == "later":
            return "cross-layer"
        return "sae" if self.reads == "output" else "transcoder"

    @property
    def wanted(self) -> float:
        """Active features a token that are aimed at: the target, else k."""
        return self.target_l0 or self.k

    @property
    def controlled(self) -> bool:
        """Whether a controller moves the penalty."""
        return self.kind in ("relu", "jumprelu") and self.target_l0 > 0

    @property
    def penalty(self) -> float:
        """The penalty's weight at the start."""
        return self.l0 if self.kind == "jumprelu" else self.l1


@dataclass(frozen=True)
class TrainConfig:
    """How it is trained."""

    steps: int = option(1200, "Optimisation steps", minimum=1)
    cells_per_batch: int = option(16, "Cells in a step; every token of them counts", minimum=1)
    learning_rate: float = option(2e-3, "Peak learning rate of Adam", minimum=0.0)
    warmup: int = option(50, "Steps until the learning rate is at its peak", minimum=0)
    decay: float = option(
        0.5, "Share of the steps, at the end, over which the rate falls to 0", minimum=0.0, maximum=1.0
    )
    anneal: float = option(
        0.2,
        "Share of the steps, at the start, over which the number of active features falls to k",
        minimum=0.0,
        maximum=1.0,
    )
    answer_weight: float = option(
        4.0, "Weight of the error where the label is decided; other tokens have 1", minimum=0.0
    )
    skip_prompt: bool = option(
        False, "Leave the prompt's own tokens out of training: only genes and what decides the label count"
    )
    finetune_steps: int = option(
        0,
        "Steps at the end in which all layers are tuned together, on the model's predictions with every MLP "
        "replaced",
        minimum=0,
    )
    finetune_rate: float = option(
        1e-3, "Their peak learning rate, relative to the size of the weights", minimum=0.0
    )
    revive: float = option(
        1 / 32, "Weight of the loss that revives dead features (0: they stay dead)", minimum=0.0
    )
    dead_after: int = option(
        40_000, "A feature is dead after so many tokens without firing", minimum=1, unit="tokens"
    )
    seed: int = option(0, "Seed of the split, the data order and the initial weights", minimum=0)
    held_out: float = option(
        0.1, "Share of the cells that test: figures come from them", minimum=0.01, maximum=0.9
    )
    choose: float = option(
        0.05,
        "Share of the cells that choose: thresholds are fitted on them, and the best checkpoint is found (0: "
        "none; then the test cells choose, and thresholds are fitted on training cells)",
        minimum=0.0,
        maximum=0.8,
    )
    split_by: Literal["model", "stratified", "random", "donor"] = option(
        "model",
        "How cells are held out; model: the language model's own split, where it states one for these cells",
    )
    log_every: int = option(10, "Steps between two records of the loss", minimum=1, unit="steps")
    evaluate_every: int = option(
        100, "Steps between two measurements with all MLPs replaced", minimum=1, unit="steps"
    )
    evaluate_cells: int = option(16, "Choosing cells that are measured on while training", minimum=1)
    checkpoint_every: int = option(100, "Steps between two checkpoints", minimum=1, unit="steps")
    processes: int = option(
        1,
        "Processes that share the training: one for each graphics card, or several on a processor",
        minimum=1,
    )
    parallel: Literal["auto", "data", "layers"] = option(
        "auto",
        "What several processes share out: data (the cells of a step; all hold all layers), layers (each "
        "holds some, and reads all cells), auto (data where the layers fit)",
    )
    micro_batch_cells: int = option(
        0,
        "Cells that go through at once, with the result of the whole step (0: what fits into a graphics "
        "card's memory; on a processor all)",
        minimum=0,
    )
    precision: Literal["auto", "float32", "bfloat16", "fastest"] = option(
        "auto",
        "Of the model's forward pass; transcoders' weights are always float32. auto: bfloat16 on a graphics "
        "card that has it (the transcoders' products are TensorFloat-32 then), float32 on a processor; "
        "fastest: bfloat16 where a trial finds it faster",
    )
    compile: bool = option(
        False,
        "Compile the model's attention and MLPs (torch.compile): minutes at the start, for faster steps",
    )
    best_at_end: bool = option(
        False,
        "End with the layers of the lowest CE with all MLPs replaced, where the last ones are worse; the few "
        "choosing cells that are measured while training decide",
    )
    calibration_cells: int = option(
        128, "Cells that the saved thresholds are fitted on, at most: of those that choose", minimum=1
    )

    def __post_init__(self) -> None:
        check(self)

    @property
    def all_steps(self) -> int:
        """Steps with those at the end."""
        return self.steps + self.finetune_steps


def learning_rate(cfg: TrainConfig, step: int) -> float:
    """Linear warm-up, flat, then linear to 0 over the last `decay` share of the steps."""
    rise = min(1.0, (step + 1) / max(1, cfg.warmup))
    fall = min(1.0, (cfg.steps - step) / max(1.0, cfg.decay * cfg.steps))
    return cfg.learning_rate * rise * fall


def features_of_step(cfg: TranscoderConfig, train: TrainConfig, step: int) -> int:
    """k of a step: from 4k down to k over the first `anneal` share, so that early on many features learn.

    For a controlled kind, the target of its controller.
    """
    span = train.anneal * train.steps
    left = max(0.0, 1 - step / span) if span else 0.0
    wanted = cfg.wanted if cfg.controlled else cfg.k
    return max(1, round(wanted * (1 + 3 * left)))


class Preset(NamedTuple):
    """A pair of configurations with a word on what it is good for."""

    transcoder: TranscoderConfig
    train: TrainConfig
    help: str


PRESETS: dict[str, Preset] = {
    "recommended": Preset(
        TranscoderConfig(skip=True),
        TrainConfig(finetune_steps=60),
        "BatchTopK with an affine path, and all layers tuned together at the end: few active features, small "
        "loss",
    ),
    "paper": Preset(
        TranscoderConfig(kind="relu", normalise=False, l1=1.4e-4),
        TrainConfig(
            steps=700, learning_rate=4e-4, warmup=100, decay=0.0, anneal=0.0, answer_weight=1.0, revive=0.0
        ),
        "ReLU with an L1 penalty of 1.4e-4, as the seed paper states it",
    ),
    "quick": Preset(
        TranscoderConfig(skip=True),
        TrainConfig(steps=100, warmup=10, cells_per_batch=8, evaluate_every=50),
        "BatchTopK for a minute, to see whether everything fits together",
    ),
}


@dataclass(frozen=True)
class TrainingJob:
    """All that a training run needs to start again: it is the run's configuration on disk."""

    sentences: SentenceConfig  # the model's own, unless there is a reason (lm.sentence_config)
    model: str = "embedded"
    data: str = "embedded"
    device: str = "auto"
    cells: CellChoices = field(default_factory=CellChoices)
    transcoder: TranscoderConfig = field(default_factory=TranscoderConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
