"""Train a small C2S-style GPT-NeoX on a cell table: the embedded default, or one for the user's cells.

The recipe is a byte-level BPE trained on the cell sentences (so that genes split into sub-words, as they
do in Pythia), a parallel-residual GPT-NeoX, and augmentation that only single cells allow: every epoch
breaks the ties of equal counts anew and drops some genes, so that few cells do not get memorised.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from scipy import sparse
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch.nn import functional as F
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, PreTrainedTokenizerFast

from scx_core.cells import CellTable
from scx_core.errors import ScxError
from scx_core.runs.options import option
from scx_core.sentences import Prompt, SentenceConfig, answer_ids, encode, gene_sentences

END_OF_TEXT = "<|endoftext|>"


@dataclass(frozen=True)
class RecipeConfig:
    """Size and training of a small model."""

    width: int = option(128, "Width of the residual stream", minimum=16)
    layers: int = option(4, "Transformer blocks", minimum=1)
    heads: int = option(4, "Attention heads", minimum=1)
    residual: str = option(
        "parallel",
        "Block form: parallel (the MLP reads what attention reads, as in Pythia) or sequential (the MLP "
        "reads what attention wrote)",
        choices=("parallel", "sequential"),
    )
    activation: str = option("gelu", "Activation of the MLPs", choices=("gelu", "relu"))
    feedforward: int = option(4, "Neurons of an MLP per width of the residual stream", minimum=1)
    attention: str = option(
        "learned",
        "Attention patterns: learned, or uniform (a plain mean of all tokens so far, so that whatever "
        "combines genes lies in the MLPs)",
        choices=("learned", "uniform"),
    )
    mlp_start: float = option(
        1.0,
        "Size of the MLPs' first weights at the start, over 0.02: small ones keep GELU nearly a line",
        minimum=0.0,
    )
    vocabulary: int = option(
        0, "Tokens of the byte-pair encoding (0: 1,200, or 4,000 for more than 2,000 genes)", minimum=0
    )
    readings: int = option(17_600, "Cells read in training, every repeat counted", minimum=1, unit="cells")
    batch: int = option(16, "Cells in a step", minimum=1)
    learning_rate: float = option(1e-3, "Peak learning rate of AdamW", minimum=0.0)
    weight_decay: float = option(0.1, "Weight decay of the matrices", minimum=0.0)
    attention_decay: float = option(
        -1.0, "Weight decay of attention's matrices (below 0: as the others)", minimum=-1.0
    )
    dropout: float = option(0.1, "Dropout of the residual branches while training", minimum=0.0, maximum=0.9)
    attention_dropout: float = option(
        0.0, "Dropout of attention patterns while training", minimum=0.0, maximum=0.9
    )
    gene_dropout: float = option(
        0.35, "Share of genes left out of a sentence, anew at each reading", minimum=0.0, maximum=0.9
    )
    thinning: float = option(
        0.0,
        "Largest share of a cell's counts that is left out, anew at each reading: cells of a shallower study",
        minimum=0.0,
        maximum=0.95,
    )
    answer_weight: float = option(
        4.0, "Weight of an answer token in the loss, a gene token has 1", minimum=0.0
    )
    seed: int = option(0, "Seed of weights, order, ties and augmentation", minimum=0)

    @property
    def steps(self) -> int:
        """Optimisation steps."""
        return -(-self.readings // self.batch)

    def vocabulary_for(self, n_genes: int) -> int:
        """Tokens for a data set of so many genes."""
        return self.vocabulary or (1200 if n_genes <= 2000 else 4000)


def train_tokenizer(texts: Iterator[str], vocabulary: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE over the training sentences; no BOS, padding on the left with end-of-text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=END_OF_TEXT, pad_token=END_OF_TEXT, padding_side="left"
    )


def new_model(cfg: RecipeConfig, vocabulary: int, context: int) -> GPTNeoXForCausalLM:
    """A GPT-NeoX with Pythia's choices (rotary on a quarter of a head, untied) and the recipe's blocks."""
    torch.manual_seed(cfg.seed)
    config = GPTNeoXConfig(
        vocab_size=vocabulary,
        hidden_size=cfg.width,
        intermediate_size=cfg.feedforward * cfg.width,
        num_hidden_layers=cfg.layers,
        num_attention_heads=cfg.heads,
        max_position_embeddings=context,
        use_parallel_residual=cfg.residual == "parallel",
        hidden_act=cfg.activation,
        hidden_dropout=cfg.dropout,
        attention_dropout=cfg.attention_dropout,
        tie_word_embeddings=False,
        bos_token_id=0,
        eos_token_id=0,
    )
    model = GPTNeoXForCausalLM(config)
    if cfg.mlp_start != 1.0:
        with torch.no_grad():
            for block in model.gpt_neox.layers:
                block.get_submodule("mlp.dense_h_to_4h").get_parameter("weight").mul_(cfg.mlp_start)
    if cfg.attention == "uniform":
        uniform_attention(model, cfg)
    return model


def uniform_attention(model: GPTNeoXForCausalLM, cfg: RecipeConfig) -> None:
    """Queries of zero, and no gradient for them: every score is 0, every pattern the mean so far."""
    head = cfg.width // cfg.heads
    for block in model.gpt_neox.layers:
        packed = block.get_submodule("attention.query_key_value")  # rows run over (head, q|k|v, k)
        for parameter in (packed.get_parameter("weight"), packed.get_parameter("bias")):
            kept = torch.ones_like(parameter).view(cfg.heads, 3, head, -1)
            kept[:, 0] = 0
            kept = kept.view_as(parameter)
            with torch.no_grad():
                parameter.mul_(kept)
            parameter.register_hook(lambda gradient, kept=kept: gradient * kept.to(gradient.device))


class Step(NamedTuple):
    """One optimisation step's report. `loss` per weighted token, `answer_loss` per answer token (nats)."""

    step: int
    steps: int
    loss: float
    answer_loss: float


class WeightedBatch(NamedTuple):
    """Right-padded ids int64 [B, T] and loss weights float32 [B, T] (0 on padding)."""

    ids_BT: torch.Tensor
    weight_BT: torch.Tensor


def augmented(genes: Sequence[str], n_genes: int, dropout: float, rng: np.random.Generator) -> list[str]:
    """Leave out a random share (up to `dropout`) of the genes; the next ones move up."""
    share = rng.uniform(0, dropout)
    kept = [g for g, u in zip(genes, rng.random(len(genes)), strict=True) if u >= share]
    return (kept or list(genes))[:n_genes]


@dataclass(frozen=True)
class Thinned:
    """Cells with a part of their counts left out: of each row a share that is uniform between 0 and `most`.

    Drawn anew at each reading of rows, from `rng`. Raises ScxError for values that are no counts.
    """

    table: CellTable
    most: float
    rng: np.random.Generator

    @property
    def symbols(self) -> np.ndarray:
        """The genes, [n_genes]."""
        return self.table.symbols

    def rows(self, indices: np.ndarray | list[int]) -> sparse.csr_matrix:
        """Thinned counts of some cells, float32 CSR [len(indices), n_genes]; no cell loses all of them."""
        if self.table.values_kind != "counts":
            raise ScxError(
                f"{self.table.name} holds {self.table.values_kind}: only counts can be thinned.",
                "Set thinning to 0, or choose the matrix of counts.",
            )
        full = self.table.rows(indices)
        keep = 1 - self.rng.uniform(0, self.most, full.shape[0])
        thin = full.copy()
        thin.data = self.rng.binomial(
            full.data.astype(np.int64), np.repeat(keep, np.diff(full.indptr))
        ).astype(np.float32)
        lost = np.flatnonzero(np.asarray(thin.sum(1)).ravel() == 0)
        for row in lost.tolist():
            at = slice(full.indptr[row], full.indptr[row + 1])
            thin.data[at] = full.data[at]
        thin.eliminate_zeros()
        return thin


def padded(rows: Sequence[tuple[list[int], int]], answer_weight: float) -> WeightedBatch:
    """Token ids and where each answer begins, as one batch."""
    width = max(len(ids) for ids, _ in rows)
    ids_BT = torch.zeros(len(rows), width, dtype=torch.int64)
    weight_BT = torch.zeros(len(rows), width)
    for b, (ids, start) in enumerate(rows):
        ids_BT[b, : len(ids)] = torch.tensor(ids)
        weight_BT[b, : len(ids)] = 1.0
        weight_BT[b, start : len(ids)] = answer_weight
    return WeightedBatch(ids_BT, weight_BT)


def cells_of_step(rows: np.ndarray, cfg: RecipeConfig, step: int) -> list[tuple[int, int]]:
    """(row, pass) of the cells of a step. All passes together are one endless list, each a new permutation
    of the rows, and a step takes the next `batch` of it: few cells are read often, many cells once."""
    at = np.arange(step * cfg.batch, (step + 1) * cfg.batch)
    passes = (at // len(rows)).tolist()
    orders = {n: np.random.default_rng([cfg.seed, 0, n]).permutation(rows) for n in set(passes)}
    return [(int(orders[n][i]), n) for n, i in zip(passes, at % len(rows), strict=True)]


def training_batch(
    table: CellTable,
    rows: np.ndarray,
    tokenizer: PreTrainedTokenizerFast,
    prompt: Prompt,
    sentences: SentenceConfig,
    cfg: RecipeConfig,
    step: int,
) -> WeightedBatch:
    """The batch of one step: a pure function of the config and the step's number, so a resume is exact."""
    rng = np.random.default_rng([cfg.seed, 1, step])
    wanted = int(np.ceil(sentences.n_genes / (1 - cfg.gene_dropout)))
    out, cells = [], cells_of_step(rows, cfg, step)
    # Hardly ever more than one pass in a step: its rows are read together.
    source = (
        Thinned(table, cfg.thinning, np.random.default_rng([cfg.seed, 2, step])) if cfg.thinning else table
    )
    read = {
        passed: iter(gene_sentences(source, [r for r, p in cells if p == passed], wanted, cfg.seed + passed))
        for passed in {passed for _, passed in cells}
    }
    for row, passed in cells:
        genes = next(read[passed])
        kept = augmented(genes, sentences.n_genes, cfg.gene_dropout, rng)
        cell = encode(tokenizer, prompt, kept, organism=table.organism, num_genes=sentences.n_genes)
        answer = answer_ids(tokenizer, table.labels[row], prompt.lead or "")
        out.append(([*cell.ids, *answer, tokenizer.eos_token_id], len(cell.ids)))
    return padded(out, cfg.answer_weight)


def weighted_loss(logits_BTV: torch.Tensor, batch: WeightedBatch) -> tuple[torch.Tensor, torch.Tensor]:
    """Next-token cross-entropy, weighted; and, for the log, that of the answer tokens alone (nats)."""
    ce_BT = F.cross_entropy(
        logits_BTV[:, :-1].flatten(0, 1).float(), batch.ids_BT[:, 1:].flatten(), reduction="none"
    )
    weight_BT = batch.weight_BT[:, 1:].flatten()
    answer_BT = weight_BT > 1
    return (ce_BT * weight_BT).sum() / weight_BT.sum(), ce_BT[answer_BT].mean().detach()


def make_optimizer(model: torch.nn.Module, cfg: RecipeConfig) -> torch.optim.AdamW:
    """AdamW with weight decay on the matrices only; attention's can have one of their own."""
    named = list(model.named_parameters())
    own = cfg.attention_decay >= 0
    attention = [p for name, p in named if p.ndim >= 2 and own and ".attention." in name]
    matrices = [p for name, p in named if p.ndim >= 2 and not (own and ".attention." in name)]
    groups = [
        {"params": matrices, "weight_decay": cfg.weight_decay},
        {"params": [p for _, p in named if p.ndim < 2], "weight_decay": 0.0},
    ]
    if attention:
        groups.append({"params": attention, "weight_decay": cfg.attention_decay})
    return torch.optim.AdamW(groups, lr=cfg.learning_rate, betas=(0.9, 0.98))


def learning_rate(cfg: RecipeConfig, step: int) -> float:
    """A linear warm-up over 5% of the steps, then a cosine to zero."""
    warm = max(1, cfg.steps // 20)
    if step < warm:
        return cfg.learning_rate * (step + 1) / warm
    return cfg.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, cfg.steps - warm)))
