"""What made a result: tool, versions, configuration and the identity of what went in."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from scx_core import __version__
from scx_core.runs.options import to_dict

PACKAGES = ("torch", "transformers", "numpy", "anndata", "scanpy")


def provenance(
    *,
    config: Any = None,
    data: Any = None,
    model: Any = None,
    transcoders: Any = None,
    seed: int | None = None,
    **extra: Any,
) -> dict[str, Any]:
    """A JSON-able record without timestamps, so that the same inputs give the same record.

    `config` is a dataclass or a dict. `data`, `model` and `transcoders` are texts, dicts, or objects with a
    `fingerprint` and a `name` or `source`; of a path only the last part is kept, as the record travels.
    """
    record: dict[str, Any] = {"tool": {"name": "scX", "version": __version__}, "versions": versions()}
    parts = {
        "config": config if config is None or isinstance(config, Mapping) else to_dict(config),
        "data": _identity(data),
        "model": _identity(model),
        "transcoders": _identity(transcoders),
        "seed": seed,
    }
    return record | {key: value for key, value in (parts | extra).items() if value is not None}


def versions() -> dict[str, str]:
    """The versions of Python and of the packages that decide about numbers; an absent package is left out."""
    return dict(_versions())


@cache  # reading what five packages declare takes as long as a tenth of a small model's circuit
def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _identity(thing: Any) -> Any:
    if thing is None or isinstance(thing, (str, Mapping)):
        return thing
    if isinstance(thing, Path):
        return thing.name
    source = getattr(thing, "name", None) or getattr(thing, "source", "")
    found = {"name": Path(str(source)).name, "fingerprint": thing.fingerprint}
    # A set that is used on another text than it was trained on says so (transcoders/check.py).
    mark = getattr(thing, "meta", {}).get("as_is")
    return found | ({"as_is": mark} if mark else {})
