"""Gradient × input of the real model: no transcoder, nothing frozen.

Legend: B cells, T positions, d residual width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from scx_core.attribution.target import TargetPlan
from scx_core.evidence.interventions import rest_of, target_values
from scx_core.language import Language, positions
from scx_core.sentences import EncodedCell, pad_left

BATCH = 8


def gradient_times_input(
    lm: Language, plan: TargetPlan, cells: Sequence[EncodedCell]
) -> list[dict[str, float]]:
    """Each cell's genes with (d target / d embedding) · embedding, summed over a gene's tokens, in the unit
    of the target."""
    found: list[dict[str, float]] = []
    for start in range(0, len(cells), BATCH):
        part = cells[start : start + BATCH]
        rest_BK = rest_of(lm, plan, part)
        padded = pad_left([plan.prompt_ids(cell) for cell in part], lm.pad_id)
        ids_BT, mask_BT = (torch.from_numpy(array).to(lm.device) for array in padded)
        with torch.enable_grad():
            input_BTd = lm.model.get_input_embeddings()(ids_BT).detach().requires_grad_(True)
            logits_BJV = lm.model(
                inputs_embeds=input_BTd,
                attention_mask=mask_BT,
                position_ids=positions(mask_BT),
                use_cache=False,
                logits_to_keep=plan.n_logits,
            ).logits
            (slope_BTd,) = torch.autograd.grad(target_values(logits_BJV, plan, rest_BK).sum(), input_BTd)
        effect_BT = (slope_BTd * input_BTd.detach()).sum(-1).double().cpu().numpy()
        for cell, effect_T in zip(part, effect_BT, strict=True):
            own_T = effect_T[len(effect_T) - len(cell.ids) - len(plan.forced) :]
            found.append({span.gene: float(own_T[span.start : span.end].sum()) for span in cell.spans})
    return found
