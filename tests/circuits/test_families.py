"""Every family goes the whole way: train transcoders, validate them, ask for an answer, trace it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from scx_core.attribution.local_replacement_model import freeze, freeze_many
from scx_core.attribution.replacement_model import replacement
from scx_core.circuits import ConsensusConfig, make_tracer
from scx_core.language import load_language
from scx_core.training import train
from scx_core.training.config import TrainConfig, TrainingJob, TranscoderConfig
from scx_core.training.train import new_run
from scx_core.validation import validate
from tests.tiny import LABELS, OTHER_FAMILIES, random_set, save_tiny, tiny_cells, tiny_language, tiny_table

TRAIN = TrainConfig(steps=6, cells_per_batch=4, warmup=2, dead_after=1500, held_out=0.2, checkpoint_every=6)


@pytest.mark.parametrize("family", OTHER_FAMILIES)
def test_from_a_folder_to_a_circuit(tmp_path, family):
    folder = save_tiny(tmp_path / "model", family=family)
    lm, table = load_language(folder, device="cpu", dtype="float32"), tiny_table(20)
    coder = TranscoderConfig(expansion=4, k=6)
    job = TrainingJob(lm.sentence_config, model=str(folder), data="tiny", transcoder=coder, train=TRAIN)
    coders = train(new_run(tmp_path, job, lm, table), lm, table)
    assert coders.width == lm.facts.width
    found = validate(lm, coders, table, np.arange(4))
    assert found.ce_zero != pytest.approx(found.ce_orig)
    assert 0 <= found.label_accuracy_orig <= 1
    tracer = make_tracer(lm, coders, table)
    circuit = tracer.cell(3)
    assert circuit.target.answer in LABELS
    assert circuit.accounting["max_relative_error"] < 1e-3
    parts = ("gene_effect", "prompt_effect", "error_effect", "bias_effect")
    assert sum(circuit.scores[part] for part in parts) == pytest.approx(circuit.target.value, abs=1e-4)
    assert tracer.consensus(LABELS[0], answer=LABELS[0], cfg=ConsensusConfig(cells=2)).n_cells == 2


@pytest.mark.parametrize("family", OTHER_FAMILIES)
def test_prompts_frozen_together_are_those_frozen_alone(tmp_path, family):
    lm = tiny_language(tmp_path, family=family)
    rep, prompts = replacement(lm, random_set(lm, "relu", skip=True)), [cell.ids for cell in tiny_cells(lm)]
    assert len({len(ids) for ids in prompts}) > 1
    for ids, together in zip(prompts, freeze_many(rep, prompts), strict=True):
        alone = freeze(rep, ids)
        assert together.ids == alone.ids
        names = ("embedding_Td", "final_scale_T", "logits_V", "logit_factor_V")
        pairs = [(getattr(together, name), getattr(alone, name)) for name in names]
        pairs += [
            pair
            for layers in zip(together.layers, alone.layers, strict=True)
            for pair in zip(*layers, strict=True)
        ]
        for ours, theirs in pairs:
            assert (ours is None) == (theirs is None)
            if ours is not None:
                torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)
