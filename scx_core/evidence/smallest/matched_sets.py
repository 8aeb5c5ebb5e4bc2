"""Random node sets that a found one is held against: the same size and layers, as much activation.

Whoever keeps as many features of a layer that are about as active keeps something too. Each node of the found
set is exchanged for one of the nearest by activation mass (its activation summed over the tokens of the
searched cells) in its layer, none twice and none of the set itself.
Legend: B cells, T positions, L layers, F features, X candidate nodes.
"""

from __future__ import annotations

import numpy as np
import torch

from scx_core.evidence.smallest.faithfulness import KeptProblem
from scx_core.language import mlp_io

NEAR = 20  # so many of the nearest by mass are drawn from


@torch.no_grad()
def activation_mass(problem: KeptProblem) -> np.ndarray:
    """Sum over a problem's cells of each candidate's |activation| in the original model, float64 [X]."""
    tried = problem.tried
    ids_BT, mask_BT = tried.prompts.ids_BT, tried.prompts.mask_BT
    mass = np.zeros(problem.shape)
    for start in range(0, tried.n_cells, tried.cfg.rows):
        some = slice(start, start + tried.cfg.rows)
        inputs = mlp_io(tried.lm, ids_BT[some], mask_BT[some]).inputs
        for layer, (coder, x_BTd) in enumerate(zip(tried.coders.layers, inputs, strict=True)):
            z_BTF = coder.encode(x_BTd) * mask_BT[some, :, None]
            mass[layer] += z_BTF.abs().sum(0 if len(problem.shape) == 3 else (0, 1)).double().cpu().numpy()
    return mass.ravel()


def matched_sets(
    kept: np.ndarray, mass_X: np.ndarray, layers: int, draws: int, seed: int
) -> list[np.ndarray]:
    """`draws` sets of candidates as large as `kept`, layer by layer of about the same mass; ascending.

    A layer with too few other active candidates gives fewer.
    """
    rng, size = np.random.default_rng(seed), len(mass_X) // layers
    out = []
    for _ in range(draws):
        free_X = mass_X > 0
        free_X[kept] = False
        drawn: list[int] = []
        for node in kept.tolist():
            first = node // size * size
            at = first + np.flatnonzero(free_X[first : first + size])
            if not len(at):
                continue
            nearest = at[np.argsort(np.abs(np.log(mass_X[at] / max(mass_X[node], 1e-9))), kind="stable")]
            drawn.append(int(rng.choice(nearest[:NEAR])))
            free_X[drawn[-1]] = False
        out.append(np.sort(np.array(drawn, dtype=np.int64)))
    return out
