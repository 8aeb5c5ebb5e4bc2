"""What training a small model will take, measured by trial steps before it is started.

The transcoders that follow take as long again or less: what they take can be told once the model is there.
"""

from __future__ import annotations

import time

import torch

from scx_core.build.config import BuildConfig
from scx_core.language import pick_device
from scx_core.language.numbers import flushed_subnormals
from scx_core.language.recipe import Batch, make_optimizer, new_model, weighted_loss
from scx_core.transcoders.estimate import PROMPT_TOKENS, TOKENS_A_GENE, TRIAL_STEPS, Estimate


def estimate_model(cfg: BuildConfig, n_genes: int) -> Estimate:
    """Time of the model's training, its memory (bytes), weights, tokens a step, for cells of `n_genes` genes.

    Takes a few steps on random tokens of the usual length. Raises ScxError when the device is not there.
    """
    recipe, device = cfg.recipe, pick_device(cfg.device)
    length = round(cfg.sentences.n_genes * TOKENS_A_GENE) + PROMPT_TOKENS
    vocabulary = recipe.vocabulary_for(n_genes)
    with torch.random.fork_rng(devices=[]), flushed_subnormals():
        model = new_model(recipe, vocabulary, length).train()
        model.to(torch.device(device))  # type: ignore[arg-type]
        optimizer = make_optimizer(model, recipe)
        ids_BT = torch.randint(vocabulary, (recipe.batch, length)).to(device)
        batch = Batch(ids_BT, torch.ones_like(ids_BT, dtype=torch.float32))
        _step(model, optimizer, batch)  # the first step allocates
        since = time.perf_counter()
        for _ in range(TRIAL_STEPS):
            _step(model, optimizer, batch)
        seconds = (time.perf_counter() - since) / TRIAL_STEPS
    parameters = sum(p.numel() for p in model.parameters())
    # Weights, gradients, Adam's two moments and the running mean; what a step keeps for its way back.
    kept = ids_BT.numel() * (16 * recipe.width * recipe.layers + 2 * vocabulary)
    kept += recipe.batch * recipe.heads * recipe.layers * length**2
    return Estimate(recipe.steps * seconds, 4 * (5 * parameters + kept), parameters, ids_BT.numel())


def _step(model: torch.nn.Module, optimizer: torch.optim.Optimizer, batch: Batch) -> None:
    with torch.autocast(batch.ids_BT.device.type, torch.bfloat16):
        logits_BTV = model(batch.ids_BT).logits
    loss, _ = weighted_loss(logits_BTV, batch)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    if batch.ids_BT.is_cuda:
        torch.cuda.synchronize()
