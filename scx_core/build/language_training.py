"""Run the recipe in a run folder: checkpoints, a stop on request, and a resume that changes nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from transformers import GPTNeoXForCausalLM, PreTrainedTokenizerFast

from scx_core.build.recipe import (
    RecipeConfig,
    WeightedBatch,
    learning_rate,
    make_optimizer,
    new_model,
    padded,
    train_tokenizer,
    training_batch,
    weighted_loss,
)
from scx_core.errors import ScxError
from scx_core.language.loading import SETTINGS_FILE, Language, load_language
from scx_core.language.numerics.denormals import flushed_subnormals
from scx_core.runs.files import write_json
from scx_core.runs.options import to_dict
from scx_core.runs.progress import Progress, silent
from scx_core.runs.run_folder import RunFolder
from scx_core.sentences import SentenceConfig, answer_ids, encode, gene_sentences, make_prompt

# Answers and their longest prefixes: room behind the prompt in the model's context.
ANSWER_ROOM = 48
# Cells that the tokenizer and the context's length are fitted on.
SOME = 2000
CHECKPOINT_EVERY = 50
WATCH_BATCH, WATCH_TIMES = 16, 20  # cells at a time; how often they are asked, about


def training_texts(table, rows: np.ndarray, sentences: SentenceConfig, seed: int) -> Iterator[str]:
    """Training texts for the tokenizer, each cell three times with other ties."""
    prompt = make_prompt(sentences.prompt)
    before, after = prompt.parts(num_genes=sentences.n_genes, organism=table.organism)
    for shift in range(3):
        cells = gene_sentences(table, rows, sentences.n_genes, seed + shift)
        for row, genes in zip(rows, cells, strict=True):
            yield f"{before}{' '.join(genes)}{after}{prompt.lead or ''}{table.labels[row]}."


def context_length(table, rows: np.ndarray, tokenizer, sentences: SentenceConfig) -> int:
    """A context that holds the longest of the cells, in steps of 64 tokens, with room for answers."""
    prompt = make_prompt(sentences.prompt)
    cells = gene_sentences(table, rows, sentences.n_genes, sentences.tie_seed)
    longest = max(
        len(encode(tokenizer, prompt, genes, organism=table.organism, num_genes=sentences.n_genes).ids)
        for genes in cells
    )
    return 64 * int(np.ceil((1.2 * longest + ANSWER_ROOM) / 64))


def _checkpoint(run: RunFolder, step: int, model, optimizer) -> None:
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{key}": value for key, value in state.items()}
    tensors["rng"] = torch.get_rng_state()
    if model.device.type == "cuda":  # dropout draws on the model's own card
        tensors["cuda_rng"] = torch.cuda.get_rng_state(model.device)
    run.save_checkpoint(step, tensors, {}, keep=2)


def _restore(run: RunFolder, model, optimizer) -> int:
    """Steps that are done; the model, the optimizer and the RNG are put back to that point."""
    saved = run.latest_checkpoint()
    run.truncate_metrics(saved.step if saved else 0)
    if saved is None:
        return 0
    found = {k.removeprefix("model."): v for k, v in saved.tensors.items() if k.startswith("model.")}
    model.load_state_dict(found)
    full = optimizer.state_dict()
    full["state"] = {}
    for name, value in saved.tensors.items():
        if name.startswith("optimizer."):
            _, index, key = name.split(".")
            full["state"].setdefault(int(index), {})[key] = value
    optimizer.load_state_dict(full)
    torch.set_rng_state(saved.tensors["rng"])
    if "cuda_rng" in saved.tensors and model.device.type == "cuda":
        torch.cuda.set_rng_state(saved.tensors["cuda_rng"], model.device)
    return saved.step


def save_model(
    folder: Path, model: GPTNeoXForCausalLM, tokenizer: PreTrainedTokenizerFast, settings: dict[str, Any]
) -> None:
    """Write a model, its tokenizer and what scx.json says of it."""
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder, safe_serialization=True)
    tokenizer.save_pretrained(folder)
    write_json(folder / SETTINGS_FILE, settings)


def take_step(
    model: GPTNeoXForCausalLM,
    optimizer: torch.optim.Optimizer,
    loss: torch.Tensor,
    recipe: RecipeConfig,
    step: int,
) -> None:
    """One step of the optimizer at the recipe's rate, gradients clipped to norm 1. Raises ScxError when the
    loss is not finite."""
    if not torch.isfinite(loss):
        raise ScxError(f"The loss is not finite in step {step}.", "Lower the learning rate.")
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(recipe, step)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()


def watch_batches(
    table,
    rows: np.ndarray,
    tokenizer: PreTrainedTokenizerFast,
    sentences: SentenceConfig,
    device: torch.device,
) -> list[WeightedBatch]:
    """Cells that do not train, whole and unthinned, with their answers; a weight above 1 marks those."""
    prompt, out = make_prompt(sentences.prompt), []
    for first in range(0, len(rows), WATCH_BATCH):
        some = rows[first : first + WATCH_BATCH]
        texts = []
        for row, genes in zip(
            some, gene_sentences(table, some, sentences.n_genes, sentences.tie_seed), strict=True
        ):
            cell = encode(tokenizer, prompt, genes, organism=table.organism, num_genes=sentences.n_genes)
            texts.append(
                (
                    [*cell.ids, *answer_ids(tokenizer, table.labels[row], prompt.lead or "")],
                    len(cell.ids),
                )
            )
        batch = padded(texts, 2.0)
        out.append(WeightedBatch(batch.ids_BT.to(device), batch.weight_BT.to(device)))
    return out


class Watched(NamedTuple):
    """`n` cells that do not train, and the share of them that the commonest type's name answers rightly."""

    batches: Sequence[WeightedBatch]
    n: int
    one_answer: float


@torch.no_grad()
def answer_accuracy(model: GPTNeoXForCausalLM, batches: Sequence[WeightedBatch]) -> float:
    """Share of the cells whose answer is the likeliest next token at each of its tokens: the answer that is
    written greedily. Draws nothing, so that training goes on as if nobody had asked."""
    was = model.training
    model.eval()
    right = n = 0
    for ids_BT, weight_BT in batches:
        hit_BT = model(ids_BT).logits[:, :-1].argmax(-1) == ids_BT[:, 1:]
        right += int((hit_BT | (weight_BT[:, 1:] <= 1)).all(1).sum())
        n += len(ids_BT)
    model.train(was)
    return right / n


def _loop(
    run: RunFolder,
    model: GPTNeoXForCausalLM,
    batch_of: Callable[[int], WeightedBatch],
    watched: Watched,
    recipe: RecipeConfig,
    progress: Progress,
    stopped: Callable[[], bool],
) -> bool:
    """The steps from the latest checkpoint on. False when it was asked to stop before the last."""
    optimizer = make_optimizer(model, recipe)
    half = torch.autocast(model.device.type, torch.bfloat16)
    every = max(1, recipe.steps // WATCH_TIMES)
    for step in range(_restore(run, model, optimizer), recipe.steps):
        batch = batch_of(step)
        with half:
            logits_BTV = model(batch.ids_BT).logits
        loss, answer_loss = weighted_loss(logits_BTV, batch)
        take_step(model, optimizer, loss, recipe, step)
        done = step + 1
        record = {"step": done, "loss": loss.item(), "answer_loss": answer_loss.item()}
        if watched.n and (done % every == 0 or done == recipe.steps):
            record["accuracy"] = answer_accuracy(model, watched.batches)
            record |= {"watched": watched.n, "one_answer": watched.one_answer}
        run.log(record)
        progress(done, recipe.steps, "training the model")
        stop = stopped()
        if stop or done % CHECKPOINT_EVERY == 0 or done == recipe.steps:
            _checkpoint(run, done, model, optimizer)
        if stop and done < recipe.steps:
            return False
    return True


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
    watched: np.ndarray | Sequence[int] = (),
    progress: Progress = silent,
    stopped: Callable[[], bool] = lambda: False,
) -> Language | None:
    """Train a model on `rows` of the table, write it to `folder` in Hugging Face format, and load it.

    Of the rows `watched`, which should not be among `rows`, the share that is answered rightly is logged as
    it goes (`accuracy`), with their number and what one answer for all of them reaches; they decide about
    nothing. `settings` is added to what `scx.json` says (labels,
    sentences, recipe). Metrics per step go to the
    run. Returns None when `stopped` turned true; the run then goes on later from that step.
    Raises ScxError when the loss is not finite.
    """
    some = rows[:: max(1, len(rows) // SOME)]
    tokenizer = train_tokenizer(
        training_texts(table, some, sentences, recipe.seed), recipe.vocabulary_for(table.n_genes)
    )
    model = new_model(recipe, len(tokenizer), context_length(table, some, tokenizer, sentences)).train()
    model.to(torch.device(device))
    prompt = make_prompt(sentences.prompt)

    def batch_of(step: int) -> WeightedBatch:
        batch = training_batch(table, rows, tokenizer, prompt, sentences, recipe, step)
        return WeightedBatch(*(part.to(device) for part in batch))

    with flushed_subnormals():
        of = np.asarray(watched, dtype=np.int64)
        batches = watch_batches(table, of, tokenizer, sentences, model.device)
        commonest = max(Counter(table.labels[of].tolist()).values(), default=0)
        some_cells = Watched(batches, len(of), commonest / max(1, len(of)))
        if not _loop(run, model, batch_of, some_cells, recipe, progress, stopped):
            return None
    about = {
        "name": name,
        "labels": sorted(set(table.labels[rows].tolist())),
        "sentences": to_dict(sentences),
        "lead": prompt.lead,
        "recipe": to_dict(recipe),
    }
    save_model(folder, model, tokenizer, about | (settings or {}))
    return load_language(folder, device=device)
