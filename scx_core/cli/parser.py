"""A parser whose errors are one line, and whose commands build their options only when they are called."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from scx_core.errors import ScxError

Subparsers = Any  # argparse has no public name for it


class CommandParser(argparse.ArgumentParser):
    """`fill(parser)` adds the options. They come from configuration classes that live beside torch, and the
    list of commands must not wait for torch: it is called when this very command is parsed."""

    def __init__(
        self, *args: Any, fill: Callable[[argparse.ArgumentParser], None] | None = None, **kwargs: Any
    ) -> None:
        kwargs.setdefault("allow_abbrev", False)
        super().__init__(*args, **kwargs)
        self._fill = fill

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """As ever, with the options there."""
        if self._fill is not None:
            fill, self._fill = self._fill, None
            fill(self)
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        """Raise ScxError instead of printing the usage and leaving."""
        raise ScxError(f"{message}.", f"`{self.prog} --help` lists what there is.")
