"""One layer's transcoder while it is trained: weights, what it remembers of its features, loss, folding.

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
from scx_core.metrics import active, fvu, l0, squares_about_mean
from scx_core.training.auxk import lift, revival_loss
from scx_core.training.config import TrainConfig, TranscoderConfig
from scx_core.training.init import first_weights, normalised
from scx_core.training.jumprelu import Count, Jump, follow
from scx_core.training.ops.sparse import Selection, decode_selected, select_above, select_batch, select_tokens
from scx_core.training.profiler import phase
from scx_core.training.schedule import features_of_step
from scx_core.transcoders.module import Kind, Transcoder

GUESS = 0.8  # share of the last cuts that the next one is expected to be above
CUT_MEMORY = 0.98  # decay a step of the running mean of the selection's cut


class Report(NamedTuple):
    """One step of one layer: `objective` is minimised (`loss` is without the revival of dead ones)."""

    objective: torch.Tensor
    loss: float
    fvu: float
    l0: float
    dead: float


class Coded(NamedTuple):
    """Tokens through a layer: error, sparsity penalty, how often each feature fires, and what a
    pre-activation must reach to be kept (of topk and jumprelu a mean; relu has none)."""

    error_Td: torch.Tensor
    penalty: torch.Tensor | float
    fires_F: torch.Tensor
    cut: float | None


class Code(NamedTuple):
    """What active features of some tokens write ([T, D], D the width of W_dec); the rest as in `Coded`."""

    write_TD: torch.Tensor
    penalty: torch.Tensor | float
    fires_F: torch.Tensor
    cut: float | None


class Trainee:
    """The state of one layer: `weights` are optimised; `memory` is carried along."""

    def __init__(self, cfg: TranscoderConfig, train: TrainConfig, weights: dict, memory: dict) -> None:
        self.cfg, self.train = cfg, train
        self.weights: dict[str, torch.Tensor] = {name: t.requires_grad_(True) for name, t in weights.items()}
        self.memory: dict[str, torch.Tensor] = memory

    @classmethod
    def from_data(
        cls, cfg: TranscoderConfig, train: TrainConfig, x_Td: torch.Tensor, y_Td: torch.Tensor, layer: int
    ) -> Trainee:
        """A fresh layer, from a sample of raw activations."""
        fresh = cls(cfg, train, *first_weights(cfg, train, x_Td, y_Td, layer))
        if cfg.normalise:  # without, the recipe is the published one
            fresh.fit_scale(x_Td, y_Td)
        return fresh

    @torch.no_grad()
    def fit_scale(self, x_Td: torch.Tensor, y_Td: torch.Tensor) -> None:
        """Scale the encoder so that the active features together write as much as they should, by least
        squares over raw activations. Features that start as similar tokens fire together and would write the
        same output many times over: the first fifty steps would go into taking it back."""
        x_Td, y_Td = normalised(self.memory, x_Td, y_Td)
        w, k = self.weights, features_of_step(self.cfg, self.train, 0)
        write_Td = self.code(x_Td, k).write_TD
        wanted, written = float(((y_Td - w["b_dec"]) * write_Td).sum()), float(_sum_of_squares(write_Td))
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

    def select(self, pre_TF: torch.Tensor, k: int) -> Selection:
        """The active features of a batch."""
        if self.cfg.kind == "topk":
            return select_tokens(pre_TF, min(k, pre_TF.shape[1]))
        return select_batch(pre_TF, min(k * len(pre_TF), pre_TF.numel()), GUESS * float(self.memory["cut"]))

    def step(self, x_Td: torch.Tensor, y_Td: torch.Tensor, k: int, weight_T: torch.Tensor) -> Report:
        """Loss of a batch of raw activations with `k` active features a token; updates the memory.

        `weight_T` weighs the tokens' errors (1 on average).
        """
        x_Td, y_Td = normalised(self.memory, x_Td, y_Td)
        coded = self.coded(x_Td, y_Td, k)
        return self.report(x_Td, y_Td, coded, k, weight_T, [coded.error_Td])

    def report(
        self,
        x_Td: torch.Tensor,
        y_Td: torch.Tensor,
        coded: Coded,
        k: int,
        weight_T: torch.Tensor,
        missing: Sequence[torch.Tensor],
    ) -> Report:
        """The loss of normalised activations whose error is known; updates the memory. `missing` are the
        errors [T, d] of the outputs that this layer writes to: dead features learn them."""
        w, (error_Td, penalty, fires_F, cut) = self.weights, coded
        loss = self.error_term(error_Td, y_Td, weight_T) + penalty
        objective, dead_F = loss, self.dead_F
        if self.train.revive and bool(dead_F.any()):
            index_D = dead_F.nonzero()[:, 0]
            rows = (w[name][index_D] for name in ("W_enc", "b_enc", "W_dec"))
            missing_TD = missing[0].detach() if len(missing) == 1 else torch.cat([*missing], 1).detach()
            objective = loss + self.train.revive * revival_loss(x_Td, missing_TD, *rows)
        self.remember(fires_F, len(x_Td), cut, k)
        with torch.no_grad():
            unexplained = float(fvu(_sum_of_squares(error_Td), squares_about_mean(y_Td)))
        return Report(
            objective, loss.item(), unexplained, l0(fires_F, len(x_Td)), float(dead_F.float().mean())
        )

    def coded(self, x_Td: torch.Tensor, y_Td: torch.Tensor, k: int, level: float | None = None) -> Coded:
        """Normalised activations through the layer; `level` as for `code`."""
        code = self.code(x_Td, k, level)
        return Coded(y_Td - self.output(x_Td, code.write_TD), code.penalty, code.fires_F, code.cut)

    def code(self, x_Td: torch.Tensor, k: int, level: float | None = None) -> Code:
        """What the features make of normalised activations. `level` is the cut of BatchTopK where it is known
        already: these are then a part of the batch."""
        w = self.weights
        penalty: torch.Tensor | float = 0.0
        cut: float | None = None
        penalised = self.cfg.kind in ("relu", "jumprelu")
        with torch.set_grad_enabled(penalised and torch.is_grad_enabled()), phase("encode"):
            pre_TF = linear(x_Td, w["W_enc"], w["b_enc"])
        if penalised:
            with phase("select"):
                z_TF, amount, cut = self._penalised(pre_TF)
            with phase("decode"):
                code_Td = z_TF @ w["W_dec"]
            penalty = self.memory.get("penalty", self.cfg.penalty) * amount
            fires_F = active(z_TF.detach()).sum(0)
        else:
            with phase("select"):
                chosen = self.select(pre_TF, k) if level is None else select_above(pre_TF, level)
            with phase("decode"):
                weights = w["W_enc"], w["b_enc"], w["W_dec"]
                code_Td = decode_selected(x_Td, pre_TF, chosen.pattern, *weights, chosen.value_N)
            fires_F, cut = torch.bincount(chosen.pattern.feature_N, minlength=len(w["b_enc"])), chosen.cut
        return Code(code_Td, penalty, fires_F, cut)

    def output(self, x_Td: torch.Tensor, write_Td: torch.Tensor) -> torch.Tensor:
        """The stand-in for the normalised output, of what features write to it."""
        output_Td = write_Td + self.weights["b_dec"]
        if "W_skip" in self.weights:
            output_Td = output_Td + x_Td @ self.weights["W_skip"].T
        return output_Td

    @torch.no_grad()
    def remember(self, fires_F: torch.Tensor, n_tokens: int, cut: float | None, k: int) -> None:
        """Take what a whole batch showed into the memory, and let the controller follow."""
        self.memory["unseen"] = torch.where(fires_F > 0, 0, self.memory["unseen"] + n_tokens)
        if cut is not None:
            before = self.memory["cut"]
            self.memory["cut"] = torch.where(
                before > 0, CUT_MEMORY * before + (1 - CUT_MEMORY) * cut, before + cut
            )
        if self.cfg.controlled:
            follow(self.memory, l0(fires_F, n_tokens), k, self.weights.get("log_threshold"))

    def _penalised(self, pre_TF: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, float | None]:
        """Activations; what is penalised of them: their sum a token (relu) or their number (jumprelu); the
        mean threshold of jumprelu."""
        if self.cfg.kind == "relu":
            z_TF = pre_TF.relu()
            return z_TF, z_TF.sum(1).mean(), None
        threshold_F = self.weights["log_threshold"].exp()
        mean = float(threshold_F.detach().mean())
        return Jump.apply(pre_TF, threshold_F), Count.apply(pre_TF, threshold_F), mean

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
    def after_step(self) -> None:
        """What an optimiser step is followed by: unit decoder rows, and a push for dead features."""
        W_dec = self.weights["W_dec"]
        W_dec /= W_dec.norm(dim=1, keepdim=True).clamp(min=1e-12)
        if self.train.revive:
            lift(self.weights["b_enc"], self.dead_F, float(self.memory["cut"]))

    @torch.no_grad()
    def largest(self, x_Td: torch.Tensor, y_Td: torch.Tensor, most: int) -> torch.Tensor:
        """The `most` largest pre-activations of raw activations [N]: the threshold is one of them. Those of
        JumpReLU are in units of their feature's threshold."""
        w = self.weights
        pre_TF = linear(normalised(self.memory, x_Td, y_Td)[0], w["W_enc"], w["b_enc"])
        most = min(most, pre_TF.numel())
        if "log_threshold" in w:
            return (pre_TF / w["log_threshold"].exp()).flatten().topk(most).values
        return select_batch(pre_TF, most, GUESS * float(self.memory["cut"])).value_N

    @torch.no_grad()
    def folded(self, threshold: float | None = None) -> Transcoder:
        """The transcoder for raw activations. `threshold` (BatchTopK) defaults to the running cut; that of
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


def _sum_of_squares(x: torch.Tensor) -> torch.Tensor:
    return torch.dot(x.flatten(), x.flatten())
