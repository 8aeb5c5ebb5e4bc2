"""Run by the interpreter of another environment: circuit-tracer traces a prompt that it is handed.

Stands alone (imports nothing of this project). Argument: a JSON object; last line of output: another. It is
given the same GPT-NeoX model, the same TopK transcoders, the same tokens, the same direction as the target
and the same number of nodes, which it chooses by influence as well; of the batch sizes that it is allowed
the fastest counts. It leaves features of the first position out, and has no nodes for biases.
"""

import json
import resource
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any


def main() -> None:
    """Trace, and print the seconds of the fastest batch size, by number of nodes."""
    asked = json.loads(sys.argv[1])
    import torch
    from safetensors.torch import load_file, save_file

    torch.set_num_threads(asked["threads"])
    given = load_file(Path(asked["folder"]) / "trace.safetensors")
    model = _model(asked, given)
    logits_V = model(given["ids"][None]).detach()[0, -1]
    rows, of_target = [], {}
    for nodes in asked["nodes"]:
        best: dict[str, Any] = {"seconds": float("inf")}
        for batch in asked["batches"]:
            seconds, graph = _fastest(model, given, nodes, batch, asked["runs"])
            if seconds < best["seconds"]:
                best = {"seconds": seconds, "batch": batch, "active": len(graph.active_features)}
        chosen = graph.selected_features
        of_target[f"place_{nodes}"] = graph.active_features[chosen].contiguous()  # layer, position, feature
        of_target[f"edge_{nodes}"] = graph.adjacency_matrix[-1, : len(chosen)].contiguous()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        rows.append({"nodes": nodes, "peak_gib": peak, **best})
    save_file({**of_target, "logits": logits_V.contiguous()}, Path(asked["folder"]) / "peer.safetensors")
    print(json.dumps({"peer": "circuit-tracer", "version": version("circuit-tracer"), "rows": rows}))


def _fastest(model: Any, given: dict[str, Any], nodes: int, batch: int, runs: int) -> tuple[float, Any]:
    """Seconds of the median run after one that is not counted, from the prompt to the pruned graph."""
    from circuit_tracer import attribute
    from circuit_tracer.attribution.targets import CustomTarget
    from circuit_tracer.graph import prune_graph

    target = CustomTarget(token_str="target", prob=1.0, vec=given["direction"])
    taken = []
    for _ in range(runs + 1):
        since = time.perf_counter()
        graph = attribute(
            given["ids"], model, attribution_targets=[target], batch_size=batch, max_feature_nodes=nodes
        )
        prune_graph(graph, 0.8, 0.98)
        taken.append(time.perf_counter() - since)
    return sorted(taken[1:])[len(taken[1:]) // 2], graph


def _model(asked: dict[str, Any], given: dict[str, Any]) -> Any:
    """The peer's replacement model of these weights."""
    from circuit_tracer.replacement_model.replacement_model_transformerlens import (
        TransformerLensReplacementModel,
    )
    from circuit_tracer.transcoder import TranscoderSet
    from circuit_tracer.transcoder.activation_functions import TopK
    from circuit_tracer.transcoder.single_layer_transcoder import SingleLayerTranscoder
    from transformer_lens import HookedTransformerConfig
    from transformer_lens.pretrained.weight_conversions import convert_neox_weights
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, PreTrainedTokenizerFast

    sizes = asked["config"]
    theirs = GPTNeoXForCausalLM(GPTNeoXConfig(**sizes)).eval()
    weights = {name[len("model.") :]: t for name, t in given.items() if name.startswith("model.")}
    if "embed_out.weight" in theirs.state_dict():  # as older versions of transformers call it
        weights["embed_out.weight"] = weights.pop("lm_head.weight")
    theirs.load_state_dict(weights, strict=True)
    width, heads = sizes["hidden_size"], sizes["num_attention_heads"]
    cfg = HookedTransformerConfig(
        n_layers=sizes["num_hidden_layers"],
        d_model=width,
        n_ctx=sizes["max_position_embeddings"],
        d_head=width // heads,
        n_heads=heads,
        d_mlp=sizes["intermediate_size"],
        d_vocab=sizes["vocab_size"],
        act_fn=sizes["hidden_act"],
        eps=sizes["layer_norm_eps"],
        normalization_type="LN",
        positional_embedding_type="rotary",
        rotary_dim=int(sizes["rotary_pct"] * (width // heads)),
        rotary_base=int(sizes["rotary_emb_base"]),
        rotary_adjacent_pairs=False,
        parallel_attn_mlp=sizes["use_parallel_residual"],
        original_architecture="GPTNeoXForCausalLM",
        model_name="gpt-neox",
        device="cpu",
        default_prepend_bos=False,
    )
    # Read from its file, as a newer version of transformers may have written the folder.
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=asked["tokenizer"], eos_token=asked["end"], pad_token=asked["end"]
    )
    model = TransformerLensReplacementModel(cfg, tokenizer)
    model.load_and_process_state_dict(
        convert_neox_weights(theirs, cfg), fold_ln=False, center_writing_weights=False, center_unembed=False
    )
    layers = {}
    for k in range(sizes["num_hidden_layers"]):
        n_features = len(given[f"set.{k}.b_enc"])
        layer = SingleLayerTranscoder(width, n_features, TopK(asked["k"]), k, dtype=given["direction"].dtype)
        own = {name: given[f"set.{k}.{name}"] for name in ("W_enc", "W_dec", "b_enc", "b_dec")}
        layer.load_state_dict(own, strict=True)
        layers[k] = layer.to("cpu")
    model._configure_replacement_model(TranscoderSet(layers, "mlp.hook_in", "hook_mlp_out"))
    model.ensure_tokenized = lambda ids: ids  # else a token more is put in front
    return model


if __name__ == "__main__":
    main()
