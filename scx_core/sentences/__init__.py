"""Cells become text: genes ranked by expression, put into a prompt, cut into tokens with gene spans.

In come rows of a cell table; out go cell sentences and `EncodedCell`s that know which token belongs to
which gene and to which class (prompt, gene, answer). Nothing here knows a model, only a tokenizer.
"""

from scx_core.sentences.encode import (
    ANSWER,
    GENE,
    PROMPT,
    TOKEN_CLASSES,
    EncodedCell,
    GeneSpan,
    Padded,
    answer_ids,
    encode,
    pad_left,
)
from scx_core.sentences.pieces import EncodedBlock, Wording, block_encoder, encode_one_by_one, gathered
from scx_core.sentences.prompts import Prompt, SentenceConfig, make_prompt, prompts
from scx_core.sentences.rank import Ties, gene_sentences, rank_genes, rank_matrix, tie_shares, ties_of
