"""The first weights of a layer in training, from activations of its own model.

Legend: T tokens, d width, F features.
"""

from __future__ import annotations

import torch

from scx_core.training.config import TrainConfig, TranscoderConfig
from scx_core.training.ops.sparse import select_batch
from scx_core.training.schedule import features_of_step

FIRST_PENALTY = 0.1  # of relu that is held at a target, in units of the outputs' size


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
        weights["log_threshold"] = torch.full_like(weights["b_enc"], _cut(x_Td, weights, cfg.wanted)).log()
    elif cfg.kind == "relu" and cfg.controlled:
        # Its penalty follows by small steps: a training that begins far from its target ends far from it.
        weights["b_enc"] -= _cut(x_Td, weights, features_of_step(cfg, train, 0))
        memory["penalty"] = FIRST_PENALTY * (y_Td - b_dec_d).square().sum(1).mean().sqrt()
    return weights, memory


def _cut(x_Td: torch.Tensor, weights: dict[str, torch.Tensor], wanted: float) -> float:
    """The level that as many pre-activations a token reach as are wanted."""
    pre_TF = x_Td @ weights["W_enc"].T
    return select_batch(pre_TF, min(round(wanted * len(pre_TF)), pre_TF.numel()), 0.0).cut


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
