"""The validation of what is in use: the table that lies beside the set, or one measured here and kept."""

from __future__ import annotations

from streamlit.delta_generator import DeltaGenerator

from pages.parts.common import loaders
from pages.parts.common.results_cache import Memory
from pages.parts.common.session import Context
from scx_core.validation import Validation, ValidationRows, validate, validation_beside, validation_rows

_MEASURED: Memory[Validation] = Memory(12)


def rows_to_measure(ctx: Context) -> ValidationRows:
    """Test cells of the table in use, and those that the baselines are fitted on."""
    return validation_rows(loaders.language(ctx), loaders.transcoders(ctx), loaders.cells(ctx))


def known(ctx: Context) -> tuple[Validation | None, bool]:
    """What is known without measuring, and whether it was measured in this app."""
    measured = _MEASURED.peek(_key(ctx))
    if measured is not None:
        return measured, True
    lm, coders, table = loaders.language(ctx), loaders.transcoders(ctx), loaders.cells(ctx)
    marks = {"data": table.fingerprint, "model": lm.fingerprint, "transcoders": coders.fingerprint}
    return validation_beside(coders.folder, marks), False


def measure(ctx: Context, rows: ValidationRows, place: DeltaGenerator) -> Validation:
    """Measure now, with a progress bar in `place`. Raises ScxError."""
    lm, coders, table = loaders.language(ctx), loaders.transcoders(ctx), loaders.cells(ctx)

    def tell(done: int, total: int, message: str = "") -> None:
        place.progress(done / max(1, total), text=f"{message}: {done} of {total}")

    def make() -> Validation:
        with loaders.MODEL_LOCK:
            return validate(
                lm, coders, table, rows.test, train_rows=rows.train, split=rows.words, progress=tell
            )

    _MEASURED.forget(_key(ctx))
    return _MEASURED.get(_key(ctx), make)


def _key(ctx: Context) -> tuple[str, ...]:
    lm, coders, table = loaders.language(ctx), loaders.transcoders(ctx), loaders.cells(ctx)
    return table.fingerprint, repr(table.choices), lm.fingerprint, coders.fingerprint, str(lm.device)
