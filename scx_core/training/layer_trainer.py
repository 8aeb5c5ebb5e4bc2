"""One layer's transcoder while it is trained: first weights, running values, loss terms, folding.

Works on normalised activations x' = (x − mean_x) / scale_x, y' = (y − mean_y) / scale_y, in float32.
Decoder rows have unit norm, so that pre-activations of different features can be compared (BatchTopK) and
an L1 penalty cannot be dodged by small activations with long rows.
Legend: T tokens, d width, F features, D dead features.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch

from scx_core.language import linear
from scx_core.metrics import active, l0
from scx_core.training.config import TrainConfig, TranscoderConfig, features_of_step
from scx_core.training.objective.auxk import raise_bias
from scx_core.training.objective.jumprelu import ActiveCount, JumpReLU, control_penalty
from scx_core.training.ops.sparse import (
    FeatureSelection,
    decode_selected,
    number,
    select_above,
    select_batch,
    select_tokens,
    times_of,
)
from scx_core.training.profiler import phase
from scx_core.transcoders.module import Kind, Transcoder

SCALE_WORK = 2e10  # operations of a layer's encoder that finding its scale may take
GUESS = 0.8  # share of the last thresholds that the next one is expected to be above
FIRST_PENALTY = 0.1  # of relu that is held at a target, in units of the outputs' size
THRESHOLD_DECAY = 0.98  # decay a step of the running mean of the selection's threshold


class Code(NamedTuple):
    """What active features of some tokens write ([T, D], D the width of W_dec), the sparsity penalty, how
    often each feature fires, and the threshold of a pre-activation (of topk and jumprelu a mean; relu has
    none)."""

    write_TD: torch.Tensor
    penalty: torch.Tensor | float
    fires_F: torch.Tensor
    threshold: float | torch.Tensor | None


class LayerTrainer:
    """The state of one layer: `weights` are optimised; `memory` holds running values (`cut` is the mean
    threshold of the selections)."""

    def __init__(self, cfg: TranscoderConfig, train: TrainConfig, weights: dict, memory: dict) -> None:
        self.cfg, self.train = cfg, train
        self.weights: dict[str, torch.Tensor] = {name: t.requires_grad_(True) for name, t in weights.items()}
        self.memory: dict[str, torch.Tensor] = memory
        self.n_dead: int | None = None  # known before the step, where a card would be waited for

    @classmethod
    def from_data(
        cls, cfg: TranscoderConfig, train: TrainConfig, x_Td: torch.Tensor, y_Td: torch.Tensor, layer: int
    ) -> LayerTrainer:
        """A fresh layer, from a sample of raw activations."""
        fresh = cls(cfg, train, *first_weights(cfg, train, x_Td, y_Td, layer))
        if cfg.normalise:  # without, the recipe is the published one
            fresh.fit_scale(x_Td, y_Td)
        return fresh

    @torch.no_grad()
    def fit_scale(self, x_Td: torch.Tensor, y_Td: torch.Tensor) -> None:
        """Scale the encoder so that the active features together write as much as they should, by least
        squares over raw activations. Features that start as similar tokens fire together and would write the
        same output many times over: the first fifty steps would go into taking it back. One number is found,
        so that of a large layer a part of the tokens, spread evenly, is enough."""
        every = max(1, round(2 * len(x_Td) * self.weights["W_enc"].numel() / SCALE_WORK))
        x_Td, y_Td = normalised(self.memory, x_Td[::every], y_Td[::every])
        w, k = self.weights, features_of_step(self.cfg, self.train, 0)
        write_Td = self.code(x_Td, k).write_TD
        wanted, written = float(((y_Td - w["b_dec"]) * write_Td).sum()), float(sum_of_squares(write_Td))
        if wanted <= 0 or written <= 0:  # nothing fires, or the features are of no use yet
            return
        scale = wanted / written
        w["W_enc"] *= scale
        w["b_enc"] *= scale
        if "log_threshold" in w:
            w["log_threshold"] += math.log(scale)

    @property
    def dead_F(self) -> torch.Tensor:
        """Features that did not fire for `dead_after` tokens."""
        return self.memory["unseen"] > self.train.dead_after

    def select(self, pre_TF: torch.Tensor, k: int) -> FeatureSelection:
        """The active features of a batch."""
        if self.cfg.kind == "topk":
            return select_tokens(pre_TF, min(k, pre_TF.shape[1]))
        return select_batch(pre_TF, min(k * len(pre_TF), pre_TF.numel()), GUESS * number(self.memory["cut"]))

    def code(self, x_Td: torch.Tensor, k: int, threshold: float | torch.Tensor | None = None) -> Code:
        """Features of normalised activations [T, d], about `k` active a token. `threshold` is that of
        BatchTopK where it is known already: these tokens are then a part of the batch."""
        w = self.weights
        penalty: torch.Tensor | float = 0.0
        penalised = self.cfg.kind in ("relu", "jumprelu")
        with torch.set_grad_enabled(penalised and torch.is_grad_enabled()), phase("encode"):
            pre_TF = linear(x_Td, w["W_enc"], w["b_enc"])
        if penalised:
            with phase("select"):
                z_TF, amount, threshold = self._penalised(pre_TF)
            with phase("decode"):
                code_Td = z_TF @ w["W_dec"]
            penalty = self.memory.get("penalty", self.cfg.penalty) * amount
            fires_F = active(z_TF.detach()).sum(0)
        else:
            with phase("select"):
                chosen = self.select(pre_TF, k) if threshold is None else select_above(pre_TF, threshold)
            with phase("decode"):
                weights = w["W_enc"], w["b_enc"], w["W_dec"]
                code_Td = decode_selected(x_Td, pre_TF, chosen.pattern, *weights, chosen.value_N)
            fires_F = times_of(chosen.pattern.feature_N, len(w["b_enc"]))
            threshold = chosen.threshold
        return Code(code_Td, penalty, fires_F, threshold)

    def output(self, x_Td: torch.Tensor, write_Td: torch.Tensor) -> torch.Tensor:
        """The stand-in for the normalised output, of what features write to it."""
        output_Td = write_Td + self.weights["b_dec"]
        if "W_skip" in self.weights:
            output_Td = output_Td + linear(x_Td, self.weights["W_skip"])
        return output_Td

    @torch.no_grad()
    def remember(
        self, fires_F: torch.Tensor, n_tokens: int, threshold: float | torch.Tensor | None, k: int
    ) -> None:
        """Update the running values by a whole batch, and let the controller move penalty and thresholds."""
        self.memory["unseen"] = torch.where(fires_F > 0, 0, self.memory["unseen"] + n_tokens)
        if threshold is not None:
            before = self.memory["cut"]
            self.memory["cut"] = torch.where(
                before > 0,
                THRESHOLD_DECAY * before + (1 - THRESHOLD_DECAY) * threshold,
                before + threshold,
            )
        if self.cfg.controlled:
            n_active = fires_F.sum() / n_tokens if fires_F.is_cuda else l0(fires_F, n_tokens)
            control_penalty(self.memory, n_active, k, self.weights.get("log_threshold"))

    def _penalised(
        self, pre_TF: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, float | torch.Tensor | None]:
        """Activations; what is penalised of them: their sum a token (relu) or their number (jumprelu); the
        mean threshold of jumprelu."""
        if self.cfg.kind == "relu":
            z_TF = pre_TF.relu()
            return z_TF, z_TF.sum(1).mean(), None
        threshold_F = self.weights["log_threshold"].exp()
        mean = number(threshold_F.detach().mean())
        return JumpReLU.apply(pre_TF, threshold_F), ActiveCount.apply(pre_TF, threshold_F), mean

    def error_term(self, error_Td: torch.Tensor, y_Td: torch.Tensor, weight_T: torch.Tensor) -> torch.Tensor:
        """The mean error of the tokens, each with its weight."""
        if self.cfg.error == "relative":
            size_T = y_Td.norm(dim=1).clamp(min=1e-8)
            return (error_Td.square().mean(1) / size_T * weight_T).mean()
        return (error_Td.square().sum(1) * weight_T).mean()

    @torch.no_grad()
    def project_gradient(self) -> None:
        """Take from the decoder's gradient what would only change the rows' length."""
        W_dec, g = self.weights["W_dec"], self.weights["W_dec"].grad
        if g is not None:
            g -= (g * W_dec).sum(1, keepdim=True) * W_dec

    @torch.no_grad()
    def after_step(self, unit_rows: bool = False) -> None:
        """What an optimiser step is followed by: unit decoder rows (where they are not so already), and a
        push for dead features."""
        if not unit_rows:
            W_dec = self.weights["W_dec"]
            W_dec /= W_dec.norm(dim=1, keepdim=True).clamp(min=1e-12)
        if self.train.revive:
            raise_bias(self.weights["b_enc"], self.dead_F, number(self.memory["cut"]))

    @torch.no_grad()
    def largest(self, x_Td: torch.Tensor, y_Td: torch.Tensor, most: int) -> torch.Tensor:
        """The `most` largest pre-activations of raw activations [N]: the threshold is one of them. Those of
        JumpReLU are in units of their feature's threshold."""
        w = self.weights
        pre_TF = linear(normalised(self.memory, x_Td, y_Td)[0], w["W_enc"], w["b_enc"])
        most = min(most, pre_TF.numel())
        if "log_threshold" in w:
            return (pre_TF / w["log_threshold"].exp()).flatten().topk(most).values
        return select_batch(pre_TF, most, GUESS * number(self.memory["cut"])).value_N

    @torch.no_grad()
    def folded(self, threshold: float | None = None) -> Transcoder:
        """The transcoder for raw activations. `threshold` (BatchTopK) defaults to the running mean; that of
        JumpReLU is a factor on the thresholds that were learnt, 1 without it."""
        w, m = {name: t.detach() for name, t in self.weights.items()}, self.memory
        W_enc_Fd = w["W_enc"] / m["scale_x"]
        b_dec_d = w["b_dec"] * m["scale_y"] + m["mean_y"]
        W_skip_dd = None
        if "W_skip" in w:
            W_skip_dd = w["W_skip"] * (m["scale_y"] / m["scale_x"])
            b_dec_d = b_dec_d - W_skip_dd @ m["mean_x"]
        kind: Kind = "jumprelu" if self.cfg.kind == "batchtopk" else self.cfg.kind
        if "log_threshold" in w:
            threshold_F = w["log_threshold"].exp() * (1.0 if threshold is None else threshold)
        else:
            level = float(m["cut"]) if threshold is None else threshold
            threshold_F = torch.full_like(w["b_enc"], level)
        return Transcoder(
            W_enc_Fd,
            w["b_enc"] - W_enc_Fd @ m["mean_x"],
            w["W_dec"][:, : len(b_dec_d)] * m["scale_y"],  # of a cross-layer set, what it writes to its own
            b_dec_d,
            W_skip_dd,
            kind=kind,
            k=self.cfg.k if kind == "topk" else None,
            threshold_F=threshold_F if kind == "jumprelu" else None,
        )


def count_dead(layers: Sequence[LayerTrainer]) -> None:
    """Note how many dead features each layer has: of a card all numbers at once."""
    if layers and layers[0].memory["unseen"].is_cuda:
        for layer, n in zip(layers, torch.stack([t.dead_F.sum() for t in layers]).tolist(), strict=True):
            layer.n_dead = n


def sum_of_squares(x: torch.Tensor) -> torch.Tensor:
    """Σ x², by one dot product."""
    return torch.dot(x.flatten(), x.flatten())


def first_weights(
    cfg: TranscoderConfig, train: TrainConfig, x_Td: torch.Tensor, y_Td: torch.Tensor, layer: int
) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Weights and memory of a fresh layer. Feature i starts as one token of the sample: it reads that token's
    input and writes its output, so that most features are of use, and alive, from the first step."""
    memory = scales(x_Td, y_Td, cfg.normalise)
    x_Td, y_Td = normalised(memory, x_Td, y_Td)
    n_features, device = cfg.expansion * x_Td.shape[1], x_Td.device
    generator = torch.Generator().manual_seed(train.seed * 1009 + layer)
    pick_F = torch.randint(len(x_Td), (n_features,), generator=generator).to(device)
    noise_Fd = torch.randn(n_features, x_Td.shape[1], generator=generator).to(device)
    b_dec_d = y_Td.mean(0)
    read_Fd, write_Fd = x_Td[pick_F] - x_Td.mean(0), y_Td[pick_F] - b_dec_d
    read_Fd = read_Fd + 0.5 * noise_Fd * read_Fd.norm(dim=1, keepdim=True) / x_Td.shape[1] ** 0.5
    write_Fd = write_Fd + 0.1 * noise_Fd * write_Fd.norm(dim=1, keepdim=True) / x_Td.shape[1] ** 0.5
    size_F1 = write_Fd.norm(dim=1, keepdim=True)
    weights = {
        "W_enc": _even_rows(read_Fd, float(size_F1.mean()) / cfg.k**0.5),
        "b_enc": torch.zeros(n_features, device=device),
        "W_dec": write_Fd / size_F1.clamp(min=1e-12),
        "b_dec": b_dec_d,
    }
    if cfg.skip:
        weights["W_skip"] = torch.zeros(x_Td.shape[1], x_Td.shape[1], device=device)
    memory |= {
        "unseen": torch.zeros(n_features, dtype=torch.int64, device=device),
        "cut": torch.zeros((), device=device),
        "penalty": torch.tensor(cfg.penalty, device=device),
        "l0": torch.zeros((), device=device),
    }
    if cfg.kind == "jumprelu":
        weights["log_threshold"] = torch.full_like(
            weights["b_enc"], _reached_by(x_Td, weights, cfg.wanted)
        ).log()
    elif cfg.kind == "relu" and cfg.controlled:
        # Its penalty follows by small steps: a training that begins far from its target ends far from it.
        weights["b_enc"] -= _reached_by(x_Td, weights, features_of_step(cfg, train, 0))
        memory["penalty"] = FIRST_PENALTY * (y_Td - b_dec_d).square().sum(1).mean().sqrt()
    return weights, memory


def _reached_by(x_Td: torch.Tensor, weights: dict[str, torch.Tensor], wanted: float) -> float:
    """The level that as many pre-activations a token reach as are wanted."""
    pre_TF = x_Td @ weights["W_enc"].T
    return float(select_batch(pre_TF, min(round(wanted * len(pre_TF)), pre_TF.numel()), 0.0).threshold)


def _even_rows(read_Fd: torch.Tensor, level: float) -> torch.Tensor:
    """Encoder rows of one length, whose pre-activation on their own token is `level` on average: with rows of
    different lengths, features of tokens with a small output would lose every selection and die at once."""
    size_F1 = read_Fd.norm(dim=1, keepdim=True).clamp(min=1e-12)
    return level * read_Fd / size_F1 / size_F1.mean()


def scales(x_Td: torch.Tensor, y_Td: torch.Tensor, normalise: bool) -> dict[str, torch.Tensor]:
    """Means, and scales for E‖x'‖² = E‖y'‖² = 1: the loss is an FVU, one learning rate fits all models."""
    if not normalise:
        zero, one = torch.zeros_like(x_Td[0]), torch.ones((), device=x_Td.device)
        return {"mean_x": zero, "scale_x": one, "mean_y": zero.clone(), "scale_y": one.clone()}
    mean_x, mean_y = x_Td.mean(0), y_Td.mean(0)
    return {
        "mean_x": mean_x,
        "scale_x": (x_Td - mean_x).square().sum(1).mean().sqrt().clamp(min=1e-8),
        "mean_y": mean_y,
        "scale_y": (y_Td - mean_y).square().sum(1).mean().sqrt().clamp(min=1e-8),
    }


def normalised(
    memory: dict[str, torch.Tensor], x_Td: torch.Tensor, y_Td: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """(x', y') of raw activations."""
    x_Td, y_Td = x_Td - memory["mean_x"], y_Td - memory["mean_y"]
    return x_Td.div_(memory["scale_x"]), y_Td.div_(memory["scale_y"])
