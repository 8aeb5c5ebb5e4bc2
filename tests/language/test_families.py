"""The table of facts, family by family: that the parts are where it says and do what it says."""

from __future__ import annotations

import json

import pytest
import torch

from scx_core.errors import ScxError
from scx_core.language import FAMILIES, forward, load_language, mlp_io, replaced_mlps
from scx_core.language.architectures import Family
from scx_core.language.weights import head_weights, norm_weights
from scx_core.sentences import pad_left
from tests.tiny import OTHER_FAMILIES, save_tiny, tiny_cells, tiny_language

KNOWN = ["gpt_neox", *OTHER_FAMILIES]


@pytest.fixture(scope="module", params=KNOWN)
def lm(request, tmp_path_factory):
    return tiny_language(tmp_path_factory.mktemp("lm"), family=request.param)


@pytest.fixture(scope="module")
def one(lm) -> torch.Tensor:
    """A prompt, [1, T]; longer than the windows of the families that have some."""
    return torch.tensor([tiny_cells(lm)[0].ids])


def seen(lm, ids_1T, modules: dict) -> dict:
    """Name → (input, output) of modules in one forward pass; blocks and attention by their streams."""
    found: dict = {}
    handles = [
        module.register_forward_hook(
            lambda _m, args, kwargs, output, name=name: found.update(
                {name: (args[0] if args else kwargs["hidden_states"], output)}
            ),
            with_kwargs=True,
        )
        for name, module in modules.items()
    ]
    with torch.no_grad():
        found["out"] = lm.model(ids_1T, output_attentions=True)
    for handle in handles:
        handle.remove()
    return found


def test_every_family_of_the_table_is_tested():
    assert set(FAMILIES) == set(KNOWN)


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES.keys())
def test_every_entry_has_evidence_and_norms_behind_branches_are_rms(family):
    assert f"modeling_{family.model_type}.py" in family.evidence
    if family.attn_post_norm or family.mlp_post_norm:
        assert family.norm != "layernorm"  # what a branch writes is folded without centring or shift


def test_the_parts_of_a_block_add_up_to_it(lm, one):
    """The block form: what attention reads, what the MLP reads, and their sum."""
    family = lm.facts.family
    names = [name for name in ("attn_norm", "attn", "mlp_norm", "mlp") if getattr(family, name)]
    names += [name for name in ("attn_post_norm", "mlp_post_norm") if getattr(family, name)]
    for k in range(lm.facts.n_layers):
        found = seen(lm, one, {name: lm.part(k, name) for name in names} | {"block": lm.block(k)})
        stream, after = found["block"][0], found["block"][1]
        attended = found["attn_post_norm" if family.attn_post_norm else "attn"][1]
        attended = attended[0] if isinstance(attended, tuple) else attended
        written = found["mlp_post_norm" if family.mlp_post_norm else "mlp"][1]
        read = stream if lm.facts.residual == "parallel" else stream + attended
        torch.testing.assert_close(found["attn_norm"][0], stream)
        torch.testing.assert_close(found["mlp_norm"][0], read)
        torch.testing.assert_close(found["mlp"][0], found["mlp_norm"][1])
        torch.testing.assert_close(stream + attended + written, after)


def test_heads_read_and_write_what_attention_does(lm, one):
    for k in range(lm.facts.n_layers):
        found = seen(lm, one, {"attn": lm.part(k, "attn")})
        weights, x_Td = head_weights(lm, k), found["attn"][0][0]
        assert weights.W_V_Hkd.shape == (lm.facts.n_heads, lm.facts.head_width, lm.facts.width)
        value_HTk = torch.einsum("td,hkd->htk", x_Td, weights.W_V_Hkd) + weights.b_V_Hk[:, None]
        mixed_HTk = found["out"].attentions[k][0] @ value_HTk
        wrote_Td = torch.einsum("htk,hkd->td", mixed_HTk, weights.W_O_Hkd) + weights.b_O_d
        torch.testing.assert_close(wrote_Td, found["attn"][1][0][0])


def test_norms_taken_apart_are_the_norms(lm, one):
    names = ["attn_norm", "mlp_norm"]
    names += [name for name in ("attn_post_norm", "mlp_post_norm") if getattr(lm.facts.family, name)]
    for module in [lm.final_norm, *(lm.part(1, name) for name in names)]:
        x_Td, y_Td = seen(lm, one, {"norm": module})["norm"]
        norm = norm_weights(lm.facts.family.norm, module)
        torch.testing.assert_close(norm.apply(x_Td), y_Td, rtol=1e-12, atol=1e-12)
        # The same with Hugging Face's own forward, which casts to float32 in most families.
        torch.testing.assert_close(module.forward(x_Td), y_Td, rtol=1e-5, atol=1e-5)
        folded_Td = x_Td[0] * norm.scale(x_Td[0])[:, None] @ norm.fold(torch.eye(x_Td.shape[-1]).double()).T
        torch.testing.assert_close(folded_Td + norm.shift_d, y_Td[0])


def test_logits_are_capped_as_the_facts_say(lm, one):
    found = seen(lm, one, {"head": lm.model.get_output_embeddings()})
    raw, cap = found["head"][1], lm.facts.logit_cap
    assert (cap is not None) == (lm.facts.family.model_type == "gemma2")
    torch.testing.assert_close(found["out"].logits, raw if cap is None else cap * (raw / cap).tanh())


@pytest.mark.parametrize("family", KNOWN)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_padding_changes_nothing(tmp_path, family, dtype):
    lm = tiny_language(tmp_path, family=family, dtype=dtype)
    cells = tiny_cells(lm)
    padded = pad_left([cell.ids for cell in cells], lm.pad_id)
    assert padded.mask_BT.min() == 0
    with torch.no_grad():
        logits_BTV = forward(lm, torch.from_numpy(padded.ids_BT), torch.from_numpy(padded.mask_BT))
        for b, cell in enumerate(cells):
            alone_TV = lm.model(torch.tensor([cell.ids])).logits[0]
            apart = float((logits_BTV[b, -len(cell.ids) :] - alone_TV).abs().max())
            assert apart < {"float32": 1e-4, "float64": 1e-6}[dtype]


def test_mlps_are_read_and_replaced(lm, one):
    """An MLP's own output in its place changes nothing, another one does."""
    mask = torch.ones_like(one)
    io = mlp_io(lm, one, mask, logits=True)
    own = {k: lambda _x, y=y: y for k, y in enumerate(io.outputs)}
    with torch.no_grad():
        with replaced_mlps(lm, own):
            torch.testing.assert_close(forward(lm, one, mask), io.logits_BTV)
        with replaced_mlps(lm, {0: torch.zeros_like}):
            assert not torch.allclose(forward(lm, one, mask), io.logits_BTV, atol=1e-2)


def change_config(folder, **changes) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_an_unknown_family_is_told_which_facts_are_needed(tmp_path):
    change_config(save_tiny(tmp_path), model_type="mixtral")
    with pytest.raises(ScxError, match="family 'mixtral'") as caught:
        load_language(tmp_path, device="cpu")
    assert all(family in caught.value.problem for family in FAMILIES)
    assert "scx_core/language/architectures.py" in caught.value.remedy
    assert all(fact in caught.value.remedy for fact in Family._fields)


@pytest.mark.parametrize(
    ("family", "changes", "words"),
    [
        ("gpt2", {"add_cross_attention": True}, "cross-attention"),
        ("gemma2", {"use_bidirectional_attention": True}, "attention to later tokens"),
        ("llama", {"quantization_config": {"quant_method": "gptq", "bits": 4}}, "quantised weights"),
    ],
)
def test_a_feature_that_the_facts_do_not_cover_is_named(tmp_path, family, changes, words):
    change_config(save_tiny(tmp_path, family=family), **changes)
    with pytest.raises(ScxError, match=words) as caught:
        load_language(tmp_path, device="cpu")
    assert next(iter(changes)) in str(caught.value) and "\n" not in str(caught.value)


def test_heads_that_share_values_and_are_wider_than_their_share(tmp_path):
    facts = tiny_language(tmp_path, family="qwen3").facts
    assert (facts.n_heads, facts.n_value_heads, facts.head_width, facts.width) == (4, 2, 8, 16)
