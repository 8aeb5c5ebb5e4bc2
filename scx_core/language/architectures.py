"""The one table of architecture facts: where a model family keeps its parts and how its blocks add up.

Every quirk that the tracer, the taps or the loader needs is an entry here, with its evidence. Code
elsewhere asks the table and never the model type. No torch in this file.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from scx_core.errors import ScxError

Residual = Literal["parallel", "sequential"]
Norm = Literal["layernorm", "rmsnorm", "rmsnorm_plus_one"]
Packing = Literal["heads_qkv", "blocks_qkv", "values_only"]


class Handled(NamedTuple):
    """A config key whose value must be one of `values`; any other is a feature that is not handled."""

    key: str
    values: tuple[Any, ...]
    feature: str


class Family(NamedTuple):
    """Attribute paths are relative to the model (`blocks`, `final_norm`) or to a block (the others).

    - `mlp_out`: the last linear map of the MLP; its inputs are the MLP's neurons (for a gated MLP behind the
      gate), its weights what each neuron writes. `mlp_in`, `mlp_act`: its first linear map and activation
      function; of a gated MLP the map that is multiplied, and the gate's own map `mlp_gate`.
    - `values`: the module with the value weights. `packing`: their layout, as rows of a [out, in] matrix:
      `heads_qkv` runs over (head, q|k|v, k); `blocks_qkv` over (q|k|v, head, k); `values_only` is a matrix
      of its own. With fewer key-value heads than heads, consecutive heads share one.
    - `norm`: `layernorm` centres, the others do not; `rmsnorm_plus_one` has the gain 1 + weight.
    - `residual`: the block form, or the config key that decides it (true = parallel).
    - `inputs_first`: weights are stored [in, out].
    - `attn_post_norm`, `mlp_post_norm`: RMSNorms behind the branches, in front of the residual sum.
    - `logit_cap`: the config key of a cap c, logits being c·tanh(x/c).
    - `fused_attention`: whether torch's fused attention computes the same.
    - `handled`: what the config must say for these facts to hold.
    """

    model_type: str
    blocks: str
    final_norm: str
    attn: str
    mlp: str
    mlp_out: str
    mlp_in: str
    mlp_act: str
    attn_norm: str
    mlp_norm: str
    values: str
    attn_out: str
    packing: Packing
    norm: Norm
    residual: str
    evidence: str
    inputs_first: bool = False
    mlp_gate: str | None = None
    attn_post_norm: str | None = None
    mlp_post_norm: str | None = None
    logit_cap: str | None = None
    fused_attention: bool = True
    handled: tuple[Handled, ...] = ()


_NEOX = Family(
    model_type="gpt_neox",
    blocks="gpt_neox.layers",
    final_norm="gpt_neox.final_layer_norm",
    attn="attention",
    mlp="mlp",
    mlp_out="mlp.dense_4h_to_h",
    mlp_in="mlp.dense_h_to_4h",
    mlp_act="mlp.act",
    attn_norm="input_layernorm",
    mlp_norm="post_attention_layernorm",
    values="attention.query_key_value",
    attn_out="attention.dense",
    packing="heads_qkv",
    norm="layernorm",
    residual="config.use_parallel_residual",
    evidence="transformers 5.23 modeling_gpt_neox.py: GPTNeoXLayer.forward (both residual forms, the "
    "MLP norm is post_attention_layernorm in both), GPTNeoXAttention.forward (view(H, 3k).chunk(3)).",
)

_GPT2 = Family(
    model_type="gpt2",
    blocks="transformer.h",
    final_norm="transformer.ln_f",
    attn="attn",
    mlp="mlp",
    mlp_out="mlp.c_proj",
    mlp_in="mlp.c_fc",
    mlp_act="mlp.act",
    attn_norm="ln_1",
    mlp_norm="ln_2",
    values="attn.c_attn",
    attn_out="attn.c_proj",
    packing="blocks_qkv",
    norm="layernorm",
    residual="sequential",
    inputs_first=True,
    handled=(Handled("add_cross_attention", (False, None), "cross-attention"),),
    evidence="transformers 5.23 modeling_gpt2.py: GPT2Attention.forward (c_attn(x).split(d) gives q, k, v, "
    "each viewed as heads), Conv1D in pytorch_utils.py (weight [in, out]), GPT2Block.forward (sequential), "
    "GPT2Model.forward (wpe is added in front of block 0), GPT2MLP.forward (dropout only while training).",
)

_LLAMA = Family(
    model_type="llama",
    blocks="model.layers",
    final_norm="model.norm",
    attn="self_attn",
    mlp="mlp",
    mlp_out="mlp.down_proj",
    mlp_in="mlp.up_proj",
    mlp_act="mlp.act_fn",
    mlp_gate="mlp.gate_proj",
    attn_norm="input_layernorm",
    mlp_norm="post_attention_layernorm",
    values="self_attn.v_proj",
    attn_out="self_attn.o_proj",
    packing="values_only",
    norm="rmsnorm",
    residual="sequential",
    evidence="transformers 5.23 modeling_llama.py: LlamaDecoderLayer.forward (sequential; the MLP reads "
    "post_attention_layernorm), LlamaRMSNorm (not centred), repeat_kv (consecutive heads share a value "
    "head), biases by attention_bias and mlp_bias.",
)

_QWEN2 = _LLAMA._replace(
    model_type="qwen2",
    evidence="transformers 5.23 modeling_qwen2.py: Qwen2DecoderLayer.forward as in Llama, biases on q, k, v "
    "and none on o_proj; sliding windows are part of the attention pattern.",
)

_QWEN3 = _LLAMA._replace(
    model_type="qwen3",
    evidence="transformers 5.23 modeling_qwen3.py: Qwen3DecoderLayer.forward as in Llama; q_norm and k_norm "
    "act on queries and keys only and so lie inside the attention pattern; head_dim is free of the width.",
)

_GEMMA2 = _LLAMA._replace(
    model_type="gemma2",
    mlp_norm="pre_feedforward_layernorm",
    norm="rmsnorm_plus_one",
    attn_post_norm="post_attention_layernorm",
    mlp_post_norm="post_feedforward_layernorm",
    logit_cap="final_logit_softcapping",
    fused_attention=False,
    handled=(Handled("use_bidirectional_attention", (False, None), "attention to later tokens"),),
    evidence="transformers 5.23 modeling_gemma2.py: Gemma2DecoderLayer.forward (norms behind both branches), "
    "Gemma2RMSNorm (1 + weight), eager_attention_forward (soft cap before the softmax, so in the pattern; "
    "torch's fused attention has none: _supports_sdpa), "
    "Gemma2TextScaledWordEmbedding (scaled before block 0), Gemma2ForCausalLM.forward (logit soft cap).",
)

FAMILIES: dict[str, Family] = {
    family.model_type: family for family in (_NEOX, _GPT2, _LLAMA, _QWEN2, _QWEN3, _GEMMA2)
}
# Holds for every family: the tracer multiplies with the weights themselves.
ALWAYS_HANDLED = (Handled("quantization_config", (None,), "quantised weights"),)


class Architecture(NamedTuple):
    """A family's facts with one model's numbers filled in. `logit_cap` is None for logits without one."""

    family: Family
    residual: Residual
    n_layers: int
    width: int
    n_heads: int
    n_value_heads: int
    head_width: int
    context: int
    logit_cap: float | None


def _unknown(model_type: str) -> ScxError:
    needed = [name for name in Family._fields if name not in Family._field_defaults]
    return ScxError(
        f"Models of the family {model_type!r} are not known here; known: {', '.join(FAMILIES)}.",
        f"A new family is an entry in FAMILIES of scx_core/language/architectures.py that says "
        f"{', '.join(needed)} and, where they differ, {', '.join(Family._field_defaults)}.",
    )


def _check(config: Any, family: Family) -> None:
    for need in (*ALWAYS_HANDLED, *family.handled):
        value = getattr(config, need.key, None)
        if value not in need.values:
            shown = str(value) if len(str(value)) < 40 else "set"
            raise ScxError(
                f"This {family.model_type} model uses {need.feature} ({need.key} is {shown}), which the "
                "facts in scx_core/language/architectures.py do not cover.",
                "Use a model without it, or extend the family's entry there.",
            )


def architecture(config: Any) -> Architecture:
    """The facts for a Hugging Face config.

    Raises ScxError for a family that the table does not hold, or a feature that its entry does not cover.
    """
    family = FAMILIES.get(config.model_type)
    if family is None:
        raise _unknown(config.model_type)
    _check(config, family)
    residual = family.residual
    if residual.startswith("config."):
        residual = "parallel" if getattr(config, residual.removeprefix("config.")) else "sequential"
    n_heads = config.num_attention_heads
    return Architecture(
        family,
        residual,  # type: ignore[arg-type]
        config.num_hidden_layers,
        config.hidden_size,
        n_heads,
        getattr(config, "num_key_value_heads", None) or n_heads,
        getattr(config, "head_dim", None) or config.hidden_size // n_heads,
        config.max_position_embeddings,
        getattr(config, family.logit_cap) if family.logit_cap else None,
    )
