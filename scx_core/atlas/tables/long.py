"""Long tables of a layer: for each unit the largest entries of a matrix, one row each.

Legend: K entries, F units.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd


def largest_rows(mass_KF: np.ndarray, share_KF: np.ndarray, keep: int) -> pd.DataFrame:
    """feature, number (row of the matrices), mass, share: the `keep` largest masses of each unit, the largest
    first, without those that are 0. Ties go to the first."""
    if not len(mass_KF):
        return pd.DataFrame({"feature": [], "number": [], "mass": [], "share": []}).astype(
            {"feature": int, "number": int}
        )
    keep = min(keep, len(mass_KF))
    order_kF = np.argsort(-mass_KF, axis=0, kind="stable")[:keep]
    mass_kF = np.take_along_axis(mass_KF, order_kF, 0)
    share_kF = np.take_along_axis(share_KF, order_kF, 0)
    feature = np.broadcast_to(np.arange(mass_KF.shape[1]), mass_kF.shape)
    columns = {"feature": feature, "number": order_kF, "mass": mass_kF, "share": share_kF}
    there = mass_kF.T.ravel() > 0
    return pd.DataFrame({name: values.T.ravel()[there] for name, values in columns.items()})


def named(table: pd.DataFrame, name: str, names: Sequence[str]) -> pd.DataFrame:
    """With the numbers replaced by names, in a column called `name`."""
    column = pd.Categorical.from_codes(table["number"].to_numpy(dtype=int), categories=list(names))
    return table.assign(**{name: column})[["feature", name, "mass", "share"]]


def of_mass(mass_KF: np.ndarray, total_F: np.ndarray) -> np.ndarray:
    """Shares of each unit's mass."""
    return mass_KF / np.where(total_F > 0, total_F, 1.0)


def of_rates(mass_KF: np.ndarray, count_K: np.ndarray) -> np.ndarray:
    """Shares of mass per token, so that bins of unequal size compare."""
    rate_KF = mass_KF / np.maximum(count_K, 1)[:, None]
    total_F = rate_KF.sum(0)
    return rate_KF / np.where(total_F > 0, total_F, 1.0)
