"""The validation measures written again, slowly, one cell at a time, sharing no code with the room."""

from __future__ import annotations

import numpy as np
import torch

CLASSES = ("prompt", "gene", "answer")


def text_of(lm, genes: list[str], label: str) -> tuple[list[int], list[str]]:
    """Ids and class of every token of prompt + answer + end-of-text, from the plain string's characters."""
    n = lm.settings["sentences"]["n_genes"]
    before, sentence = f"Homo sapiens cell, top {n} genes: ", " ".join(genes)
    prompt = f"{before}{sentence}.\nCell type:"
    found = lm.tokenizer(prompt, return_offsets_mapping=True)
    kinds = []
    for a, b in found["offset_mapping"]:
        word = "".join(
            prompt[c] for c in range(max(a, len(before)), min(b, len(before) + len(sentence)))
        ).strip()
        kinds.append("gene" if word else "prompt")
    answer = lm.tokenizer(f" {label}.")["input_ids"] + [lm.tokenizer.eos_token_id]
    return found["input_ids"] + answer, kinds + ["answer"] * len(answer)


def slow_sentence(table, row: int, n: int, tie_seed: int) -> list[str]:
    """The sentence by sorting pairs; ties are looked up in the room's own keys."""
    from scx_core.sentences.rank import tie_keys

    counts = table.values[row].toarray()[0]
    genes = [g for g in range(len(counts)) if counts[g] > 0]
    keys = {g: int(tie_keys(np.array([row]), np.array([g]), tie_seed)[0]) for g in genes}
    return [str(table.symbols[g]) for g in sorted(genes, key=lambda g: (-counts[g], keys[g]))][:n]


class Swapped:
    """Put plain functions in the place of MLPs, by replacing the modules."""

    def __init__(self, lm, functions: dict) -> None:
        self.blocks, self.functions, self.kept = lm.model.gpt_neox.layers, functions, {}

    def __enter__(self) -> None:
        for k, function in self.functions.items():
            module = torch.nn.Module()
            module.forward = function
            self.kept[k] = self.blocks[k].mlp
            self.blocks[k].mlp = module

    def __exit__(self, *_: object) -> None:
        for k, mlp in self.kept.items():
            self.blocks[k].mlp = mlp


def log_probs(lm, ids: list[int], functions: dict | None = None) -> np.ndarray:
    """Log-probabilities [T, V] of a single unpadded text."""
    with Swapped(lm, functions or {}), torch.no_grad():
        logits = lm.model(torch.tensor([ids])).logits[0].double().numpy()
    top = logits.max(1, keepdims=True)
    return logits - top - np.log(np.exp(logits - top).sum(1, keepdims=True))


def mlp_pairs(lm, texts: list[list[int]], layer: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs and outputs of one MLP at every position but the last of each text, [N, d] each."""
    pairs = []
    mlp = lm.model.gpt_neox.layers[layer].mlp

    def noting(x):
        y = mlp(x)
        pairs.append((x[0], y[0]))
        return y

    with torch.no_grad():
        for ids in texts:
            with Swapped(lm, {layer: noting}):
                lm.model(torch.tensor([ids[:-1]]))
    return torch.cat([x for x, _ in pairs]), torch.cat([y for _, y in pairs])


def losses(lm, texts: list[tuple[list[int], list[str]]], functions: dict | None = None):
    """Cross-entropy, KL and class of every predicted token, three lists."""
    ce, kl, kinds = [], [], []
    for ids, classes in texts:
        own, new = log_probs(lm, ids), log_probs(lm, ids, functions)
        for t in range(len(ids) - 1):
            ce.append(-new[t, ids[t + 1]])
            kl.append(float((np.exp(own[t]) * (own[t] - new[t])).sum()))
            kinds.append(classes[t + 1])
    return np.array(ce), np.array(kl), np.array(kinds)


def best_label(lm, prompt_ids: list[int], labels, functions: dict | None = None) -> str:
    """The label whose whole answer has the highest log-probability, each one read from the start."""
    scores = {}
    for label in labels:
        answer = lm.tokenizer(f" {label}.")["input_ids"]
        found = log_probs(lm, prompt_ids + answer, functions)
        scores[label] = sum(found[len(prompt_ids) - 1 + i, token] for i, token in enumerate(answer))
    return max(labels, key=lambda label: scores[label])
