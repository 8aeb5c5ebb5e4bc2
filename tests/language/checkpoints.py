"""Folders in the form of the released Cell2Sentence checkpoints: their names, files and tokenizers, with
small random weights."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import torch
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    PreTrainedTokenizerFast,
)

DATA = Path(os.environ.get("SCX_TEST_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))
PYTHIA_TOKENIZER = DATA / "tokenizer" / "pythia_20B_tokenizer.json"
PYTHIA = (
    "C2S-Pythia-410m-cell-type-prediction",
    "C2S-Pythia-410m-diverse-single-and-multi-cell-tasks",
    "C2S-Scale-Pythia-1b-pt",
)
GEMMA = "C2S-Scale-Gemma-2-2B"


def pythia_folder(folder: Path, name: str, tokenizer: PreTrainedTokenizerFast | None = None) -> Path:
    """A GPT-NeoX of two small layers with the embedding's true number of rows (50,304) and Pythia's
    tokenizer, or with the one given."""
    path = folder / name
    rows = 50_304 if tokenizer is None else len(tokenizer)
    tokenizer = tokenizer or PreTrainedTokenizerFast(
        tokenizer_file=str(PYTHIA_TOKENIZER), eos_token="<|endoftext|>", bos_token="<|endoftext|>"
    )
    torch.manual_seed(0)
    config = GPTNeoXConfig(
        vocab_size=rows, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=2048, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    GPTNeoXForCausalLM(config).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


def gemma_folder(folder: Path, texts: list[str], name: str = GEMMA, control: bool = True) -> Path:
    """A Gemma-2 of two small layers with a SentencePiece tokenizer.model, and no tokenizer.json."""
    import sentencepiece

    path = folder / name
    path.mkdir(parents=True)
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts), model_writer=model, vocab_size=700, model_type="bpe",
        byte_fallback=True,
        pad_id=0, eos_id=1, bos_id=2, unk_id=3, bos_piece="<bos>", eos_piece="<eos>", add_dummy_prefix=False,
        user_defined_symbols=["<mask>", *(["<ctrl100>"] if control else []), "<end_of_turn>"],
        normalization_rule_name="identity", remove_extra_whitespaces=False, minloglevel=2, num_threads=1,
        hard_vocab_limit=False,
    )  # fmt: skip
    (path / "tokenizer.model").write_bytes(model.getvalue())
    words = {"tokenizer_class": "GemmaTokenizer", "add_bos_token": True, "add_eos_token": False}
    special = {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>", "unk_token": "<unk>"}
    (path / "tokenizer_config.json").write_text(json.dumps(words | special))
    rows = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue()).get_piece_size()
    torch.manual_seed(0)
    config = Gemma2Config(
        vocab_size=rows, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, head_dim=8, max_position_embeddings=2048, bos_token_id=2, eos_token_id=1,
        pad_token_id=0,
    )  # fmt: skip
    Gemma2ForCausalLM(config).save_pretrained(path)
    return path
