"""The training text and the order it is read in."""

import numpy as np
import pytest

from scx_core.sentences import answer_ids
from scx_core.transcoders.tokens import cells_of_step, encode_texts
from tests.tiny import tiny_cells, tiny_language, tiny_table


@pytest.fixture(scope="module")
def lm(tmp_path_factory):
    return tiny_language(tmp_path_factory.mktemp("lm"))


def test_a_text_is_prompt_answer_and_end_of_text(lm):
    table = tiny_table(5)
    texts = encode_texts(lm, table, np.array([3, 1]), lm.sentence_config)
    assert texts.n_cells == 2
    for place, row in enumerate((3, 1)):
        prompt = tiny_cells(lm, table)[row].ids
        answer = answer_ids(lm.tokenizer, table.labels[row], " ")
        ids = texts.ids[texts.start[place] : texts.start[place + 1]]
        assert ids.tolist() == [*prompt, *answer, lm.eos_id]
    ids_BT, mask_BT = texts.batch(lm, [0, 1])
    for b in range(2):
        assert (
            ids_BT[b][mask_BT[b].bool()].tolist() == texts.ids[texts.start[b] : texts.start[b + 1]].tolist()
        )
        assert mask_BT[b, -1] == 1 and mask_BT[b].sum() == np.diff(texts.start)[b]


def test_weights_follow_the_activations_and_are_higher_where_the_label_is_decided(lm):
    texts = encode_texts(lm, tiny_table(5), np.arange(5), lm.sentence_config)
    weights = texts.weights(lm, [4, 2], answer_weight=3.0)
    prompts = [len(cell.ids) for cell in tiny_cells(lm, tiny_table(5))]
    wanted = []
    for c in (4, 2):
        total = texts.start[c + 1] - texts.start[c]
        wanted += [1.0] * (prompts[c] - 1) + [3.0] * (total - prompts[c] + 1)
    assert np.allclose(weights.numpy(), np.array(wanted) / np.mean(wanted))


@pytest.mark.parametrize(("n_cells", "size"), [(20, 5), (23, 5), (3, 8)])
def test_every_epoch_reads_whole_batches_of_different_cells(n_cells, size):
    per_epoch = n_cells // min(size, n_cells)
    for epoch in range(3):
        steps = range(epoch * per_epoch, (epoch + 1) * per_epoch)
        seen = np.concatenate([cells_of_step(step, n_cells, size, seed=1) for step in steps])
        assert len(set(seen.tolist())) == len(seen) == per_epoch * min(size, n_cells)


def test_order_depends_on_seed_and_epoch_alone():
    first = [cells_of_step(step, 40, 8, 7).tolist() for step in range(10)]
    assert [cells_of_step(step, 40, 8, 7).tolist() for step in reversed(range(10))] == first[::-1]
    assert first[0] != first[5]  # the second epoch
    assert cells_of_step(0, 40, 8, 8).tolist() != first[0]
