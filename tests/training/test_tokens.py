"""The training text and the order it is read in."""

import numpy as np
import pytest

from scx_core.sentences import answer_ids
from scx_core.training import tokens as room
from scx_core.training.config import TrainConfig, TranscoderConfig
from scx_core.training.tokens import cached_texts, cells_of_step, encode_texts
from scx_core.training.trainer_state import TrainerState, activations
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


def same(a, b) -> bool:
    return a.ids[0 : len(a.ids)].tolist() == b.ids[0 : len(b.ids)].tolist() and all(
        np.array_equal(x, y) for x, y in zip(a[1:], b[1:], strict=True)
    )


def test_blocks_and_pieces_change_nothing(lm, monkeypatch):
    table, rows = tiny_table(23), np.arange(22, -1, -2)
    whole = encode_texts(lm, table, rows, lm.sentence_config)
    monkeypatch.setattr(room, "ROWS", 5)
    monkeypatch.setattr(room, "BY_PIECES", 0)
    assert same(encode_texts(lm, table, rows, lm.sentence_config), whole)


def test_texts_on_disk_are_those_in_memory_and_are_read_again(lm, tmp_path, monkeypatch):
    table, rows, cfg = tiny_table(9), np.array([8, 2, 3, 5]), lm.sentence_config
    wanted = encode_texts(lm, table, rows, cfg)
    first = cached_texts(tmp_path / "tokens", lm, table, rows, cfg)
    assert same(first, wanted) and first.ids.kind == "<u2"
    for mine, theirs in zip(first.batch(lm, [3, 0]), wanted.batch(lm, [3, 0]), strict=True):
        assert mine.tolist() == theirs.tolist()
    with monkeypatch.context() as patch:
        patch.setattr(type(table), "rows", None)  # nothing is read from the table
        assert same(cached_texts(tmp_path / "tokens", lm, table, rows, cfg), wanted)


def test_texts_on_disk_of_other_cells_or_cut_short_are_made_anew(lm, tmp_path):
    table, rows, cfg = tiny_table(9), np.array([8, 2, 3, 5]), lm.sentence_config
    cached_texts(tmp_path, lm, table, np.array([1, 2]), cfg)
    wanted = encode_texts(lm, table, rows, cfg)
    assert same(cached_texts(tmp_path, lm, table, rows, cfg), wanted)
    (tmp_path / "ids.bin").write_bytes((tmp_path / "ids.bin").read_bytes()[:-2])
    assert same(cached_texts(tmp_path, lm, table, rows, cfg), wanted)


def test_without_the_prompt_only_genes_and_the_answer_count(lm):
    table, cells = tiny_table(5), [4, 2]
    texts = encode_texts(lm, table, np.arange(5), lm.sentence_config, skip_prompt=True)
    batch = texts.batch(lm, cells)
    counted_BT = texts.counted(batch.mask_BT, cells)
    for b, c in enumerate(cells):
        cell = tiny_cells(lm, table)[c]
        kept = [*np.flatnonzero(cell.class_T == 1), *range(len(cell.ids) - 1, np.diff(texts.start)[c])]
        left = batch.ids_BT.shape[1] - np.diff(texts.start)[c]
        assert counted_BT[b].nonzero()[:, 0].tolist() == [left + t for t in kept]
    weights = texts.weights(lm, cells, answer_weight=3.0)
    assert len(weights) == int(counted_BT.sum()) == len(next(activations(lm, texts, cells))[0])
    assert np.isclose(float(weights.max() / weights.min()), 3.0) and np.isclose(float(weights.mean()), 1.0)
    everything = texts._replace(skip_prompt=False)
    assert everything.counted(batch.mask_BT, cells).tolist() == batch.mask_BT.bool().tolist()


def test_steps_without_the_prompt_learn_from_the_counted_tokens(lm):
    texts = encode_texts(lm, tiny_table(5), np.arange(5), lm.sentence_config, skip_prompt=True)
    train = TrainConfig(steps=2, cells_per_batch=5, warmup=1, skip_prompt=True)
    session = TrainerState.fresh(lm, texts, TranscoderConfig(k=3), train)
    batch = texts.batch(lm, range(5))
    n_counted = int(texts.counted(batch.mask_BT, range(5)).sum())
    report = session.step(0)
    assert report.tokens == n_counted < int(batch.mask_BT.sum())
    assert np.isfinite([report.loss, *report.fvu]).all()
