"""Tables of one layer that rest on no shares: histogram, output, examples; and the table of slots.

Legend: E examples, W tokens of context, F units, n tokens, A answers.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from scx_core.atlas.collect.one_pass import Passed
from scx_core.atlas.collect.outputs import pushed
from scx_core.atlas.collect.sums import N_HISTOGRAM, histogram_edge
from scx_core.atlas.collect.tally import LayerTally
from scx_core.atlas.collect.token_slots import REAL
from scx_core.atlas.collect.units import UnitSource
from scx_core.language import Language


def histogram_table(tally: LayerTally) -> pd.DataFrame:
    """Bins of activations that are not empty."""
    unit, number = np.nonzero(tally.firing.histogram_KF.cpu().numpy().T)
    edges = np.array([histogram_edge(k) for k in range(N_HISTOGRAM + 1)])
    tokens = tally.firing.histogram_KF.cpu().numpy().T[unit, number]
    return pd.DataFrame({"feature": unit, "low": edges[number], "high": edges[number + 1], "tokens": tokens})


def writes_table(
    lm: Language, units: UnitSource, layer: int, answers: Sequence[str], keep: int
) -> pd.DataFrame:
    """The tokens and answers that each unit of a layer pushes, the strongest push first."""
    found = pushed(lm, units, layer, keep, answers)
    tokens_Fn, n = found.token_Fn.numpy(), found.token_Fn.shape[1]
    features = np.arange(len(tokens_Fn))
    texts = {int(token): lm.text(int(token)) for token in np.unique(tokens_Fn)}
    tokens = pd.DataFrame({"feature": features.repeat(n), "kind": "token", "token": tokens_Fn.ravel()})
    tokens["text"] = [texts[token] for token in tokens["token"]]
    tokens["weight"] = found.weight_Fn.numpy().ravel()
    order_FA = np.argsort(-np.nan_to_num(found.answer_FA.numpy(), nan=-np.inf), axis=1, kind="stable")
    words = pd.DataFrame({"feature": features.repeat(len(answers)), "kind": "answer", "token": -1})
    words["text"] = np.array(answers, dtype=object)[order_FA.ravel()]
    words["weight"] = np.take_along_axis(found.answer_FA.numpy(), order_FA, 1).ravel()
    both = pd.concat([tokens, words[words["weight"].notna()]], ignore_index=True)
    both = both.sort_values("feature", kind="stable", ignore_index=True)
    return both.astype({"kind": "category", "text": "category", "weight": "float32"})


def examples_table(passed: Passed, tally: LayerTally, cells: Sequence[str]) -> pd.DataFrame:
    """One row an example; contexts without the places outside the cell. `tokens` are token ids."""
    slots, who = passed.slots.table(), {one.row: one for one in passed.plan.who}
    parts = []
    for kind, heap in (("top", tally.top), ("sample", tally.samples)):
        unit, place = np.nonzero(np.isfinite(heap.key_Fk))
        taken = {name: heap.held(name)[unit, place] for name in ("row", "position", "slot", "value")}
        id_EW, value_EW = (heap.held(name)[unit, place] for name in ("ids", "values"))
        there_EW = id_EW >= 0
        rows = pd.DataFrame({"feature": unit, "kind": kind, "order": place, **taken})
        rows["start"] = rows["position"] - heap.before + there_EW.argmax(1)
        rows["tokens"] = [ids[there] for ids, there in zip(id_EW, there_EW, strict=True)]
        rows["values"] = [values[there] for values, there in zip(value_EW, there_EW, strict=True)]
        parts.append(rows)
    both = pd.concat(parts, ignore_index=True)
    both = both.sort_values(["feature", "kind", "order"], ascending=[True, False, True], kind="stable")
    both["gene"] = pd.Categorical(slots["gene"].to_numpy()[both.pop("slot").to_numpy()])
    both["cell"] = pd.Categorical([str(cells[row]) for row in both["row"]])
    names = [*passed.plan.types, ""]
    both["cell_type"] = pd.Categorical([names[who[row].type] for row in both["row"]])
    return both.astype({"kind": "category"}).reset_index(drop=True)


def slots_table(lm: Language, passed: Passed) -> pd.DataFrame:
    """Every slot with its text, and how many tokens stood there."""
    table = passed.slots.table()
    texts = {int(token): lm.text(int(token)) for token in table["token"].unique()}
    table["text"] = [texts[token] for token in table["token"]]
    table["tokens"] = passed.counts.slots[:, :, REAL].sum(1)
    return table.astype({"gene": "category", "text": "category"})
