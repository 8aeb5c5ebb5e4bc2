"""The neurons that are captured are those that the MLP's last map turns into its output, in every family."""

import pytest
import torch

from scx_core.language import captured_neurons, mlp_io
from scx_core.language.weights import neuron_writes
from tests.tiny import OTHER_FAMILIES, tiny_language


@pytest.mark.parametrize("family", ["gpt_neox", *OTHER_FAMILIES])
def test_neurons_times_what_they_write_is_the_output_less_a_bias(tmp_path, family):
    lm = tiny_language(tmp_path, family=family)
    ids_BT = torch.tensor([[5, 6, 7, 8], [9, 10, 11, 12]])
    with captured_neurons(lm) as neurons:
        io = mlp_io(lm, ids_BT, torch.ones_like(ids_BT))
    for layer, (found, output) in enumerate(zip(neurons, io.outputs, strict=True)):
        rest = output - found @ neuron_writes(lm, layer)
        torch.testing.assert_close(rest, rest[:1, :1].expand_as(rest), atol=1e-9, rtol=0)


def test_of_the_first_texts_and_neurons_alone_the_rest_is_not_held(tmp_path):
    lm = tiny_language(tmp_path)
    ids_BT = torch.tensor([[5, 6, 7, 8], [9, 10, 11, 12], [3, 4, 5, 6]])
    with captured_neurons(lm) as whole:
        mlp_io(lm, ids_BT, torch.ones_like(ids_BT))
    with captured_neurons(lm, units=5, texts=2) as some:
        mlp_io(lm, ids_BT, torch.ones_like(ids_BT))
    for all_BTH, some_BTH in zip(whole, some, strict=True):
        torch.testing.assert_close(some_BTH, all_BTH[:2, :, :5], rtol=0, atol=0)
        assert some_BTH.untyped_storage().nbytes() == some_BTH.numel() * some_BTH.element_size()
