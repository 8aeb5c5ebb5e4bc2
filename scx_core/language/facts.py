"""The one table of architecture facts: where a model family keeps its parts and how its blocks add up.

Every quirk that the tracer, the taps or the loader needs is an entry here, with its evidence. Code
elsewhere asks the table and never the model type. No torch in this file.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from scx_core.errors import ScxError

Residual = Literal["parallel", "sequential"]
Norm = Literal["layernorm"]
Packing = Literal["heads_qkv"]


class Family(NamedTuple):
    """Attribute paths are relative to the model (`blocks`, `final_norm`) or to a block (the others).

    `residual` is the block form, or the config key that decides it (true = parallel). `packing` names
    the layout of the value weights: `heads_qkv` is one matrix whose rows run over (head, q|k|v, width).
    """

    model_type: str
    blocks: str
    final_norm: str
    attn: str
    mlp: str
    attn_norm: str
    mlp_norm: str
    qkv: str
    attn_out: str
    packing: Packing
    norm: Norm
    residual: str
    evidence: str


FAMILIES: dict[str, Family] = {
    "gpt_neox": Family(
        model_type="gpt_neox",
        blocks="gpt_neox.layers",
        final_norm="gpt_neox.final_layer_norm",
        attn="attention",
        mlp="mlp",
        attn_norm="input_layernorm",
        mlp_norm="post_attention_layernorm",
        qkv="attention.query_key_value",
        attn_out="attention.dense",
        packing="heads_qkv",
        norm="layernorm",
        residual="config.use_parallel_residual",
        evidence="transformers 5.23 modeling_gpt_neox.py: GPTNeoXLayer.forward (both residual forms, the "
        "MLP norm is post_attention_layernorm in both), GPTNeoXAttention.forward (view(H, 3k).chunk(3)).",
    ),
}


class Architecture(NamedTuple):
    """A family's facts with one model's numbers filled in."""

    family: Family
    residual: Residual
    n_layers: int
    width: int
    n_heads: int
    head_width: int
    context: int


def architecture(config: Any) -> Architecture:
    """The facts for a Hugging Face config. Raises ScxError for a family that the table does not hold."""
    family = FAMILIES.get(config.model_type)
    if family is None:
        raise ScxError(
            f"Models of the family {config.model_type!r} are not known here.",
            f"Known: {', '.join(FAMILIES)}. A new one is an entry in scx_core/language/facts.py.",
        )
    residual = family.residual
    if residual.startswith("config."):
        residual = "parallel" if getattr(config, residual.removeprefix("config.")) else "sequential"
    head_width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return Architecture(
        family,
        residual,  # type: ignore[arg-type]
        config.num_hidden_layers,
        config.hidden_size,
        config.num_attention_heads,
        head_width,
        config.max_position_embeddings,
    )
