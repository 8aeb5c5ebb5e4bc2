"""Turns what the file libraries raise on damaged files into one plain message."""

from __future__ import annotations

import csv
import errno
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

# anndata raises this for an encoding that it does not know, and exports it nowhere else.
from anndata._io.specs.registry import IORegistryError

from scx_core.errors import ScxError

_UNREADABLE = (
    OSError, KeyError, IndexError, ValueError, TypeError, AttributeError, RuntimeError, EOFError, zlib.error,
    OverflowError, csv.Error,
    IORegistryError,
)  # fmt: skip


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Raise ScxError "`what` cannot be read" for anything that a damaged file makes the libraries raise.

    anndata's warnings about old formats are silenced: they ask for nothing that a user can do here.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except ScxError as error:
        if what in error.problem:
            raise
        raise ScxError(f"{what}: {error.problem}", error.remedy) from error
    except PermissionError as error:
        raise ScxError(
            f"{what} may not be read (permission denied).", "Change the file's permissions."
        ) from error
    except MemoryError as error:
        raise ScxError(
            f"{what} needs more memory than there is.",
            "Check where the file comes from; if it is meant so, open it on a larger machine.",
        ) from error
    except _UNREADABLE as error:
        if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
            raise ScxError(f"{what[:80]}…: the name is too long for a file.", "Check the path.") from error
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise ScxError(
            f"{what} cannot be read ({reason}): it is damaged, cut short, or of another kind.",
            "Download or write the file again; if it opens elsewhere, save it anew with anndata.",
        ) from error
