"""What a build will take, measured by trial steps before it is started: the model, then each set."""

from __future__ import annotations

import time

import torch
from transformers import GPTNeoXForCausalLM

from scx_core.build.config import BuildConfig
from scx_core.build.recipe import (
    RecipeConfig,
    WeightedBatch,
    make_optimizer,
    new_model,
    train_tokenizer,
    weighted_loss,
)
from scx_core.language import Language, architecture, pick_device
from scx_core.language.numerics.denormals import flushed_subnormals
from scx_core.runs import to_dict
from scx_core.training import estimate
from scx_core.training.config import PRESETS
from scx_core.training.estimate import PROMPT_TOKENS, TOKENS_A_GENE, TRIAL_STEPS, TrainingEstimate


def estimate_build(cfg: BuildConfig, n_genes: int, n_cells: int) -> dict[str, TrainingEstimate]:
    """Time, memory (bytes), weights and tokens a step of "model" and of each preset of transcoders.

    Takes a few steps each on random tokens of the usual length; `n_genes`, `n_cells` are those of the data.
    Raises ScxError when the device is not there.
    """
    device = pick_device(cfg.device)
    length = round(cfg.sentences.n_genes * TOKENS_A_GENE) + PROMPT_TOKENS
    vocabulary = cfg.recipe.vocabulary_for(n_genes)
    with torch.random.fork_rng(devices=[]), flushed_subnormals():
        model = new_model(cfg.recipe, vocabulary, length)
        model.to(device)  # type: ignore[arg-type]
        found = {"model": _model(cfg.recipe, model, length, vocabulary)}
        lm = _unnamed(cfg, model.eval().requires_grad_(False))
        for name in cfg.preset_names:
            preset = PRESETS[name]
            found[name] = estimate(lm, preset.transcoder, preset.train, n_cells, length)
    return found


def _model(recipe: RecipeConfig, model: GPTNeoXForCausalLM, length: int, vocabulary: int) -> TrainingEstimate:
    """Train the untrained model for a few steps."""
    optimizer = make_optimizer(model.train(), recipe)
    ids_BT = torch.randint(vocabulary, (recipe.batch, length)).to(model.device)
    batch = WeightedBatch(ids_BT, torch.ones_like(ids_BT, dtype=torch.float32))
    _step(model, optimizer, batch)  # the first step allocates
    since = time.perf_counter()
    for _ in range(TRIAL_STEPS):
        _step(model, optimizer, batch)
    seconds = (time.perf_counter() - since) / TRIAL_STEPS
    parameters = sum(p.numel() for p in model.parameters())
    # Weights, gradients, Adam's two moments and the running mean; what a step keeps for its way back.
    kept = ids_BT.numel() * (16 * recipe.width * recipe.layers + 2 * vocabulary)
    kept += recipe.batch * recipe.heads * recipe.layers * length**2
    return TrainingEstimate(recipe.steps * seconds, 4 * (5 * parameters + kept), parameters, ids_BT.numel())


def _unnamed(cfg: BuildConfig, model: GPTNeoXForCausalLM) -> Language:
    """The model with a tokenizer of single bytes: a trial feeds it random tokens."""
    tokenizer = train_tokenizer(iter(["A"]), vocabulary=257)
    settings = {"sentences": to_dict(cfg.sentences)}
    return Language(model, tokenizer, architecture(model.config), "", "", settings)


def _step(model: torch.nn.Module, optimizer: torch.optim.Optimizer, batch: WeightedBatch) -> None:
    with torch.autocast(batch.ids_BT.device.type, torch.bfloat16):
        logits_BTV = model(batch.ids_BT).logits
    loss, _ = weighted_loss(logits_BTV, batch)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    if batch.ids_BT.is_cuda:
        torch.cuda.synchronize(batch.ids_BT.device)
