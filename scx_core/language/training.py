"""Run the recipe in a run folder: checkpoint every epoch, stop on request, go on exactly where it stopped."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import GPTNeoXForCausalLM, PreTrainedTokenizerFast

from scx_core.errors import ScxError
from scx_core.language.load import SETTINGS_FILE, Language, load_language
from scx_core.language.recipe import (
    RecipeConfig,
    epoch_batches,
    make_optimizer,
    new_model,
    train_tokenizer,
    weighted_loss,
)
from scx_core.runs.config import to_dict
from scx_core.runs.files import write_json
from scx_core.runs.folder import RunFolder
from scx_core.runs.progress import Progress, silent
from scx_core.sentences import SentenceConfig, encode, gene_sentences, make_prompt

# Answers and their longest prefixes: room behind the prompt in the model's context.
ANSWER_ROOM = 48


def _texts(table, rows: np.ndarray, sentences: SentenceConfig) -> Iterator[str]:
    """Training texts for the tokenizer, each cell three times with other ties."""
    prompt = make_prompt(sentences.prompt)
    before, after = prompt.parts(num_genes=sentences.n_genes, organism=table.organism)
    for shift in range(3):
        cells = gene_sentences(table, rows, sentences.n_genes, sentences.tie_seed + shift)
        for row, genes in zip(rows, cells, strict=True):
            yield f"{before}{' '.join(genes)}{after}{prompt.lead or ''}{table.labels[row]}."


def _context(table, rows: np.ndarray, tokenizer, sentences: SentenceConfig) -> int:
    """A context that holds the longest of the cells, in steps of 64 tokens, with room for answers."""
    prompt = make_prompt(sentences.prompt)
    cells = gene_sentences(table, rows, sentences.n_genes, sentences.tie_seed)
    longest = max(
        len(encode(tokenizer, prompt, genes, organism=table.organism, num_genes=sentences.n_genes).ids)
        for genes in cells
    )
    return 64 * int(np.ceil((1.2 * longest + ANSWER_ROOM) / 64))


def _checkpoint(run: RunFolder, epoch: int, model, optimizer, schedule) -> None:
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{key}": value for key, value in state.items()}
    tensors["rng"] = torch.get_rng_state()
    run.save_checkpoint(epoch, tensors, {"schedule": schedule.last_epoch}, keep=2)


def _restore(run: RunFolder, model, optimizer, schedule) -> int:
    """Epochs that are done; the model, optimizer, schedule and RNG are put back to that point."""
    saved = run.latest_checkpoint()
    if saved is None:
        return 0
    model.load_state_dict(
        {k.removeprefix("model."): v for k, v in saved.tensors.items() if k.startswith("model.")}
    )
    full = optimizer.state_dict()
    full["state"] = {}
    for name, value in saved.tensors.items():
        if name.startswith("optimizer."):
            _, index, key = name.split(".")
            full["state"].setdefault(int(index), {})[key] = value
    # The learning rate is a function of the step: the schedule sets it again.
    optimizer.load_state_dict(full)
    for _ in range(saved.state["schedule"]):
        schedule.step()
    torch.set_rng_state(saved.tensors["rng"])
    run.truncate_metrics(saved.state["schedule"])
    return saved.step


def _save(
    folder: Path, model: GPTNeoXForCausalLM, tokenizer: PreTrainedTokenizerFast, settings: dict[str, Any]
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder, safe_serialization=True)
    tokenizer.save_pretrained(folder)
    write_json(folder / SETTINGS_FILE, settings)


def train_model(
    run: RunFolder,
    table,
    rows: np.ndarray,
    folder: Path,
    recipe: RecipeConfig,
    sentences: SentenceConfig,
    *,
    name: str,
    settings: dict[str, Any] | None = None,
    device: str = "cpu",
    progress: Progress = silent,
    stopped: Callable[[], bool] = lambda: False,
) -> Language | None:
    """Train a model on `rows` of the table, write it to `folder` in Hugging Face format, and load it.

    `settings` is added to what `scx.json` says (labels, sentences, recipe). Metrics per step go to the
    run. Returns None when `stopped` turned true; the run then goes on later from its last epoch.
    Raises ScxError when the loss is not finite.
    """
    # Gradients of a confident model are full of subnormal numbers, which CPUs multiply 20 times slower.
    torch.set_flush_denormal(True)
    tokenizer = train_tokenizer(_texts(table, rows, sentences), recipe.vocabulary)
    model = new_model(recipe, len(tokenizer), _context(table, rows, tokenizer, sentences)).train()
    model.to(torch.device(device))
    steps = recipe.epochs * int(np.ceil(len(rows) / recipe.batch))
    optimizer, schedule = make_optimizer(model, recipe, steps)
    first = _restore(run, model, optimizer, schedule)
    half = torch.autocast(torch.device(device).type, torch.bfloat16)
    prompt = make_prompt(sentences.prompt)
    for epoch in range(first, recipe.epochs):
        for batch in epoch_batches(table, rows, tokenizer, prompt, sentences, recipe, epoch):
            batch = type(batch)(*(part.to(device) for part in batch))
            with half:
                logits_BTV = model(batch.ids_BT).logits
            loss, answer_loss = weighted_loss(logits_BTV, batch)
            if not torch.isfinite(loss):
                raise ScxError(f"The loss is not finite in epoch {epoch}.", "Lower the learning rate.")
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            step = schedule.last_epoch
            run.log({"step": step, "loss": loss.item(), "answer_loss": answer_loss.item()})
            progress(step, steps, f"training the model, epoch {epoch + 1} of {recipe.epochs}")
            if stopped():
                return None
        _checkpoint(run, epoch + 1, model, optimizer, schedule)
    about = {
        "name": name,
        "labels": sorted(set(table.labels[rows].tolist())),
        "sentences": to_dict(sentences),
        "lead": prompt.lead,
        "recipe": to_dict(recipe),
    }
    _save(folder, model, tokenizer, about | (settings or {}))
    return load_language(folder, device=device)
