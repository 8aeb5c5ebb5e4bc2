"""An atlas on a card that is too small: nothing is counted twice, nothing is lost, the tables are the same."""

import contextlib
import copy
from unittest import mock

import numpy as np
import pytest
import torch

from scx_core.atlas import AtlasConfig, make_atlas
from scx_core.atlas import make as make_module
from scx_core.atlas.collect import one_pass, sums, tally, units
from scx_core.atlas.judge import unit_figures
from scx_core.language import load_language
from tests.fake_cuda.jobs import card, fake_device
from tests.tiny import random_set, save_tiny, tiny_table

CELLS, MOST = 10, 2
ROOM = 2_000  # bytes that are left where something does not fit


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("model"), width=16)


def atlas(folder, *patches, baseline=False):
    """An atlas made on the card while functions are patched."""
    with card(), contextlib.ExitStack() as stack:
        lm = load_language(folder, "cuda")
        coders = random_set(lm, "topk", skip=False).to(dtype=torch.float32)
        for patch in patches:
            stack.enter_context(patch)
        cfg = AtlasConfig(batch=5, context=2, random=1, baseline=baseline)
        return make_atlas(lm, coders, tiny_table(CELLS), cfg=cfg)


def scarce(owner, name, too_large):
    """A function that finds hardly any memory where what it is given is too large."""
    whole = getattr(owner, name)

    def tried(*args, **options):
        report = fake_device.REPORT
        report.memory = report.live + ROOM if too_large(*args, **options) else None
        try:
            return whole(*args, **options)
        finally:
            report.memory = None

    return mock.patch.object(owner, name, tried)


def scarce_where_genes_are_exchanged():
    measure = make_module.measure_context

    def tried(*args, **options):
        with scarce(units.CoderUnits, "read", lambda _, layer, at: len(at.row_N) > 100):
            return measure(*args, **options)

    return mock.patch.object(make_module, "measure_context", tried)


def many_cells(_, active, batch, n_slots):
    return len(batch.half_B) > MOST


WAYS = {
    "summing": (lambda: scarce(tally.LayerTally, "add", many_cells), "cells' activations at a time"),
    "figures": (
        lambda: scarce(unit_figures, "half_of", lambda *args: len(range(*args[-1].indices(48))) > 12),
        "units of a tally at a time",
    ),
    "exchanged genes": (scarce_where_genes_are_exchanged, "copies of a cell at a time"),
}


@pytest.fixture(scope="module")
def whole(folder):
    return atlas(folder, baseline=True)


@pytest.mark.parametrize("way", WAYS)
def test_the_tables_are_the_same_to_the_last_bit(folder, whole, capsys, way):
    patch, said = WAYS[way]
    found = atlas(folder, patch(), baseline=True)
    assert said in capsys.readouterr().err
    assert found.meta == whole.meta and found.tables.keys() == whole.tables.keys()
    for name, table in whole.tables.items():
        assert found.tables[name].equals(table), name
    # Neurons are a matrix, whose batches are added up in float32: what is counted is the same.
    for name in ("firing", "features"):
        if name in whole.beside["neurons"].tables:
            ours, theirs = (one.beside["neurons"].tables[name].to_pandas() for one in (found, whole))
            for column in ours.select_dtypes("number"):
                np.testing.assert_allclose(ours[column], theirs[column], rtol=1e-5, atol=1e-6)


def test_a_batch_whose_forward_pass_does_not_fit_is_cut_before_anything_of_it_is_counted(folder, whole):
    with_room = scarce(one_pass, "forward_of", lambda lm, ids, neurons: len(ids) > MOST)
    found = atlas(folder, with_room, baseline=True)
    for name in ("n_cells", "n_tokens", "cells_of_halves"):
        assert found.meta[name] == whole.meta[name]


def test_sums_that_outgrow_the_card_move_to_main_memory(folder, capsys):
    many = [mock.patch.object(tally, "DENSE_BYTES", 0), mock.patch.object(sums, "PENDING", 500)]
    whole = atlas(folder, *many)
    assert "main memory" not in capsys.readouterr().err
    added_up = scarce(sums.SparseSums, "_added_up", lambda one: one._keys.is_cuda and len(one._keys) > 500)
    found = atlas(folder, *many, added_up)
    assert "held in main memory" in capsys.readouterr().err
    for name, table in whole.tables.items():
        assert found.tables[name].equals(table), name


def test_rows_of_neurons_that_outgrow_the_card_move_to_main_memory(folder, capsys):
    many = mock.patch.object(tally, "DENSE_BYTES", 0)
    whole = atlas(folder, many, baseline=True)
    assert "main memory" not in capsys.readouterr().err
    rows = scarce(sums.RowSums, "_adding", lambda one, *_parts: one._row_K.is_cuda and one._rows > 20)
    found = atlas(folder, many, rows, baseline=True)
    assert "held in main memory" in capsys.readouterr().err
    for name, table in whole.tables.items():
        assert found.tables[name].equals(table), name
    for name in ("firing", "features", "genes"):  # added up in float32, there in another order
        if name in whole.beside["neurons"].tables:
            ours, theirs = (one.beside["neurons"].tables[name].to_pandas() for one in (found, whole))
            for column in ours.select_dtypes("number"):
                np.testing.assert_allclose(ours[column], theirs[column], rtol=1e-5, atol=1e-6)


def held(value):
    """Everything that a tally holds, as arrays in main memory."""
    if isinstance(value, torch.Tensor):
        return [value.cpu().numpy().copy()]
    if isinstance(value, np.ndarray):
        return [value.copy()]
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return [part for one in value for part in held(one)]
    return held(vars(value)) if hasattr(value, "__dict__") else [np.array(value)]


class Failing(fake_device.Bytes):
    """The card's memory ends at the allocation `at`."""

    at = made = 0

    def __init__(self, size):
        Failing.made += 1
        if Failing.made == Failing.at:
            self.size, self.report = 0, fake_device.REPORT
            raise torch.OutOfMemoryError("CUDA out of memory.")
        super().__init__(size)


@pytest.mark.parametrize("sparse", [False, True])
def test_wherever_memory_ends_a_tally_is_as_it_was(folder, sparse):
    """At each allocation that adding a batch makes, of features and of neurons; then it is added whole."""
    add, tried = tally.LayerTally.add, []

    def each(one, active, batch, n_slots):
        if len(tried) >= 2 or isinstance(active, tally.Matrix) in tried or one.light:
            return add(one, active, batch, n_slots)
        tried.append(isinstance(active, tally.Matrix))
        one.slots.reserve(2 * one.n_data * n_slots)  # makes room, and counts nothing
        before = held(one)
        with mock.patch.object(fake_device, "Bytes", Failing):
            Failing.at, Failing.made = 0, 0
            add(copy.deepcopy(one), active, batch, n_slots)
            for at in range(1, Failing.made):  # the copies' own among them: more than there are
                Failing.at, Failing.made = at, 0
                with contextlib.suppress(torch.OutOfMemoryError):
                    add(one, active, batch, n_slots)
                    Failing.at = 0
                    break
                for now, then in zip(held(one), before, strict=True):
                    np.testing.assert_array_equal(now, then)
        assert at > 15

    patches = [mock.patch.object(tally.LayerTally, "add", each)]
    if sparse:
        patches += [mock.patch.object(tally, "DENSE_BYTES", 0), mock.patch.object(sums, "PENDING", 500)]
    found = atlas(folder, *patches, baseline=True)
    assert sorted(tried) == [False, True]
    plain = atlas(folder, *patches[1:], baseline=True)
    for name, table in plain.tables.items():
        assert found.tables[name].equals(table), name
