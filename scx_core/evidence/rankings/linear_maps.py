"""A linear map in the place of every MLP: the stand-in without features, in the form that a tracer takes.

It is a transcoder with a skip term and no active feature, so that all that traces transcoders traces it too.
"""

from __future__ import annotations

import numpy as np
import torch

from scx_core.cells import CellTable
from scx_core.language import Language
from scx_core.transcoders import Transcoder, TranscoderSet
from scx_core.validation.baselines import linear_maps


def linear_set(lm: Language, table: CellTable, rows: np.ndarray) -> TranscoderSet:
    """The least-squares map of every MLP over all tokens of these labelled cells."""
    made = []
    for one in linear_maps(lm, table, rows):
        assert one.W_dd is not None  # a map was fitted, no constant
        W_dd, b_d = one.W_dd.to(lm.device, lm.dtype), one.b_d.to(lm.device, lm.dtype)
        none_1d, closed_1 = torch.zeros_like(b_d)[None], torch.full_like(b_d[:1], -1.0)
        made.append(Transcoder(none_1d, closed_1, none_1d, b_d, W_dd))
    return TranscoderSet(tuple(made), {"name": "linear maps"})
