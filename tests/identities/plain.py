"""The frozen replacement model written out naively, to check the tracer against: no shared code with it.

One cell, one prompt. Attention patterns, 1/σ, gates and errors come from a run of the original model;
everything else is computed with the model's own modules. Sources can be overridden, and features either
keep their frozen value (direct edges) or respond linearly through their frozen gate (total effects).
"""

from __future__ import annotations

import torch


class Plain:
    """Frozen constants of one prompt, read with hooks of its own."""

    def __init__(self, lm, coders, ids) -> None:
        self.lm, self.coders = lm, coders.to(lm.device, lm.dtype).layers
        self.cross = coders.to(lm.device, lm.dtype).cross if coders.form == "cross-layer" else None
        self.model = lm.model.gpt_neox
        self.ids = torch.tensor([list(ids)])
        seen: dict = {}
        handles = []
        for k, block in enumerate(self.model.layers):
            for name in ("input_layernorm", "post_attention_layernorm", "mlp"):
                module = getattr(block, name)
                handles.append(
                    module.register_forward_hook(
                        lambda _m, a, o, key=(k, name): seen.update({key: (a[0][0], o[0])})
                    )
                )
        handles.append(
            self.model.final_layer_norm.register_forward_hook(
                lambda _m, a, o: seen.update(final=(a[0][0], o[0]))
            )
        )
        with torch.no_grad():
            out = lm.model(self.ids, output_attentions=True, use_cache=False)
        for handle in handles:
            handle.remove()
        self.logits_TV, self.patterns = out.logits[0], [a[0] for a in out.attentions]
        self.sigma = {
            key: (x.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt() for key, (x, _) in seen.items()
        }
        x = [seen[k, "mlp"][0] for k in range(len(self.coders))]
        self.z = [coder.encode(x_Td) for coder, x_Td in zip(self.coders, x, strict=True)]
        self.error = [
            seen[k, "mlp"][1] - (self.z[k] @ coder.W_dec_Fd + coder.b_dec_d + self._skip(coder, x[k]))
            for k, coder in enumerate(self.coders)
        ]
        for k in range(len(self.error)):
            self.error[k] = self.error[k] - self._crossed(self.z, k)
        self.embedding_Td = self.model.embed_in(self.ids)[0]

    @staticmethod
    def _skip(coder, x_Td):
        return 0.0 if coder.W_skip_dd is None else x_Td @ coder.W_skip_dd.T

    def _crossed(self, z, k):
        """What the features of earlier layers write to this one's output."""
        if self.cross is None:
            return 0.0
        return sum(z[m] @ self.cross[m][k - m - 1] for m in range(k))

    def _norm(self, module, key, h_Td):
        centred = h_Td - h_Td.mean(-1, keepdim=True)
        return centred / self.sigma[key] * module.weight + module.bias

    def _attention(self, k, h_Td):
        block, facts = self.model.layers[k], self.lm.facts
        x_Td = self._norm(block.input_layernorm, (k, "input_layernorm"), h_Td)
        qkv = block.attention.query_key_value(x_Td).view(len(x_Td), facts.n_heads, 3 * facts.head_width)
        value_HTk = qkv[..., 2 * facts.head_width :].transpose(0, 1)
        mixed = (self.patterns[k] @ value_HTk).transpose(0, 1).flatten(1)
        return block.attention.dense(mixed)

    def run(self, *, z=None, error=None, embedding_Td=None, respond: bool = False):
        """Pre-activations of every layer ([T, F] each) and the logits [T, V].

        With `respond`, a feature's value follows its pre-activation where its gate was open.
        """
        z = z or self.z
        error = error or self.error
        h_Td = self.embedding_Td if embedding_Td is None else embedding_Td
        pres, written = [], []
        for k, (block, coder) in enumerate(zip(self.model.layers, self.coders, strict=True)):
            attn_Td = self._attention(k, h_Td)
            read_Td = h_Td if block.use_parallel_residual else h_Td + attn_Td
            x_Td = self._norm(block.post_attention_layernorm, (k, "post_attention_layernorm"), read_Td)
            pre_TF = x_Td @ coder.W_enc_Fd.T + coder.b_enc_F
            pres.append(pre_TF)
            z_TF = pre_TF * (self.z[k] != 0) if respond else z[k]
            written.append(z_TF)
            mlp_Td = (
                self._crossed(written, k)
                + z_TF @ coder.W_dec_Fd
                + coder.b_dec_d
                + self._skip(coder, x_Td)
                + error[k]
            )
            h_Td = h_Td + attn_Td + mlp_Td
        final_Td = self._norm(self.model.final_layer_norm, "final", h_Td)
        return pres, self.lm.model.get_output_embeddings()(final_Td)
