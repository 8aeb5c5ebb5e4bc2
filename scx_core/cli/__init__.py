"""The command line: the same jobs as the app, without a browser.

In come arguments; out go text for people, JSON for programs and an exit code. One module a command, named as
it is, with `HELP`, `options(parser)`, `run(args) -> dict` and `summary(result) -> str`; all else (the parser,
the options of the output, errors, exit codes) is the same for all and stands in `main.py`.
"""

from scx_core.cli.main import main

__all__ = ["main"]
