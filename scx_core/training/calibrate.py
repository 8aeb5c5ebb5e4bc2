"""Thresholds of the finished set: where tokens have as many active features as were asked for.

Legend: T tokens, F features, d width, N pre-activations.
"""

from __future__ import annotations

import torch

from scx_core.training.layer_trainer import Trainee
from scx_core.training.micro_batch import slices
from scx_core.training.tokens import Texts, cells_of_step
from scx_core.training.trainer_state import Session
from scx_core.transcoders.module import TranscoderSet

NEAR = 0.005  # share of the active features that a calibrated level may be off, to lie in a gap


def calibrated(session: Session, choosing: Texts | None = None) -> TranscoderSet | None:
    """The final transcoders: BatchTopK gated where the tokens of the `choosing` cells (default: of the
    training cells) have k active features on average, and JumpReLU that was held at a target with its
    thresholds moved together until they have as many. Where several processes share out the layers, rank 0
    gets them.

    Raises ScxError when not even one cell at a time fits into the memory.
    """
    cfg, train, plan = session.cfg, session.train, session.plan
    if cfg.kind != "batchtopk" and not (cfg.kind == "jumprelu" and cfg.controlled):
        return session.coders()
    kept = [[torch.zeros(0, device=session.lm.device)] for _ in session.trainees]
    texts = session.texts if choosing is None else choosing
    cells = cells_of_step(0, texts.n_cells, train.calibration_cells, train.seed + 1)
    batches = [cells[at : at + train.cells_per_batch] for at in range(0, len(cells), train.cells_per_batch)]
    tokens = torch.zeros((), dtype=torch.int64)
    for some in batches[plan.partners.part(len(batches))]:
        for layer, (x_Td, y_Td) in enumerate(session.read(some, texts)):
            kept[layer].append(_largest(session, session.trainees[layer], x_Td, y_Td, len(some)))
        tokens += len(x_Td)
    wanted = round((cfg.wanted if cfg.controlled else cfg.k) * int(plan.partners.total(tokens)))
    everyones = [plan.partners.gathered(torch.cat(values)) for values in kept]
    return session.coders([_cut_at(values_N, wanted) for values_N in everyones])


def _largest(
    session: Session, trainee: Trainee, x_Td: torch.Tensor, y_Td: torch.Tensor, cells: int
) -> torch.Tensor:
    """The largest pre-activations of a batch [N], twice as many as are wanted, found in as many parts as the
    memory asks for."""
    most = round(2 * trainee.cfg.wanted * len(x_Td))

    def attempt(size: int) -> torch.Tensor:
        values_N = x_Td.new_zeros(0)
        for part in slices(len(x_Td), -(-cells // size)):
            values_N = torch.cat([values_N, trainee.largest(x_Td[part], y_Td[part], most)])
            if len(values_N) > most:
                values_N = values_N.topk(most, sorted=False).values
        return values_N

    return session.plan.micro.run(attempt, cells)


def _cut_at(values_N: torch.Tensor, wanted: int) -> float:
    """A level that about `wanted` of the values lie above: in the middle of the widest gap near that number.

    The prompts of all cells begin with the same words, so the same value comes back once a cell, to rounding.
    A level at a value would let some of them pass and others not, as rounding has it.
    """
    if len(values_N) <= wanted:
        return 0.0
    near = max(1, int(NEAR * wanted))
    first, last = max(0, wanted - near - 1), min(len(values_N), wanted + near + 1)
    near_N = values_N.topk(last).values[first:]
    gap = int((near_N[:-1] / near_N[1:].clamp(min=1e-30)).argmax()) if len(near_N) > 1 else 0
    return float(near_N[gap : gap + 2].mean())
