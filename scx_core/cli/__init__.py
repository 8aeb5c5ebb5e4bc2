"""The command line: the same jobs as the app, without a browser.

In come arguments; out go text for people, JSON for programs and an exit code. One small module a command,
each with `add(subparsers)`, `run(args) -> dict` and `summary(result) -> str`; `main.py` puts them together.
"""

from scx_core.cli.main import main

__all__ = ["main"]
