"""What the public tracer is handed and how its answer is read; it is itself in no test environment."""

import os
import sys

import pytest
import torch

from scx_core.bench.tracing_peer import TargetEdges, peer_traces
from scx_core.errors import ScxError
from tests.tiny import random_set, tiny_language

PEER = """#!{python}
import json, sys, torch
from pathlib import Path
from safetensors.torch import load_file, save_file
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

asked = json.loads(sys.argv[2])
given = load_file(Path(asked["folder"]) / "trace.safetensors")
model = GPTNeoXForCausalLM(GPTNeoXConfig(**asked["config"]))
model.load_state_dict({{n[6:]: t for n, t in given.items() if n.startswith("model.")}}, strict=True)
hidden = model.gpt_neox(given["ids"][None]).last_hidden_state[0, -1]
value = float((hidden * given["direction"]).sum())
save_file(
    {{"place_4": torch.tensor([[0, 1, 2], [1, 3, 5]]), "edge_4": torch.tensor([1.5, value])}},
    Path(asked["folder"]) / "peer.safetensors",
)
assert len(given["set.1.W_enc"]) == len(given["set.1.b_enc"]) and Path(asked["tokenizer"]).is_file()
print("other words")
print(json.dumps({{"peer": "it", "version": "1", "rows": [{{"nodes": 4, "seconds": 1.0}}]}}))
"""


def interpreter(tmp_path, text: str) -> str:
    path = tmp_path / "python"
    path.write_text(text.format(python=sys.executable))
    path.chmod(0o755)
    return str(path)


@pytest.mark.skipif(os.name == "nt", reason="a script is no interpreter there")
def test_the_peer_is_handed_the_same_model_prompt_and_target(tmp_path):
    lm = tiny_language(tmp_path)
    ids, direction_d = [3, 5, 7, 9], torch.linspace(-1, 1, lm.facts.width)
    said, edges = peer_traces(
        interpreter(tmp_path, PEER), lm, random_set(lm, "topk", skip=False), ids, direction_d, [4], 1
    )
    assert said["rows"] == [{"nodes": 4, "seconds": 1.0}]
    with torch.no_grad():
        hidden_Td = lm.model.base_model(torch.tensor([ids])).last_hidden_state[0]
    wanted = float((hidden_Td[-1] * direction_d).sum())
    assert edges[4].of == {(0, 1, 2): 1.5, (1, 3, 5): pytest.approx(wanted, rel=1e-5)}


@pytest.mark.skipif(os.name == "nt", reason="a script is no interpreter there")
def test_a_peer_that_fails_is_told_with_its_last_words(tmp_path):
    lm = tiny_language(tmp_path)
    broken = interpreter(tmp_path, "#!{python}\nraise SystemExit('no such library')\n")
    with pytest.raises(ScxError, match="no such library"):
        peer_traces(broken, lm, random_set(lm, "topk", skip=False), [3], torch.zeros(lm.facts.width), [4], 1)


def test_edges_are_held_against_each_other_where_both_have_them():
    ours = TargetEdges([(0, 1, 2), (0, 1, 3), (1, 1, 1)], [2.0, -4.0, 9.0])
    theirs = TargetEdges([(0, 1, 3), (0, 1, 2), (2, 0, 0)], [-4.0, 2.5, 7.0])
    assert ours.difference(theirs) == (2, 0.125)
    assert ours.difference(TargetEdges([], [])) == (0, 0.0)
