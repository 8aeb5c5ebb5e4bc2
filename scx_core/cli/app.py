"""`scx app`: the dashboard, on this computer only unless another address is asked for."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scx_core.errors import ScxError
from scx_core.places import app_folder
from scx_core.runs import LAST_USED, runs_root

HELP = "open the dashboard in the browser"
DESCRIPTION = (
    "Open the dashboard. Runs, uploads and atlases are written to FOLDER/runs; nothing leaves this computer."
)
OUTPUT = False  # it serves until it is stopped, and has no result to print
LOCAL = ("localhost", "127.0.0.1", "::1")
SOURCES = ("data", "model", "transcoders")


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--port", type=int, help="port (default: 8501, or the next free one)")
    parser.add_argument(
        "--host",
        default="localhost",
        metavar="ADDRESS",
        help="address to listen on (default: localhost, this computer only). The app asks for no password: "
        "with another address everybody who reaches the port uses it with your rights",
    )
    parser.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="name by which browsers reach it, such as that of a proxy; may be given several times",
    )
    parser.add_argument(
        "--folder",
        default=".",
        help="where `runs` is, and relative paths begin (default: the current folder)",
    )
    parser.add_argument("--data", metavar="SOURCE", help="cells to begin with: a path, embedded or planted")
    parser.add_argument("--model", metavar="SOURCE", help="model to begin with: a folder, a hub id, embedded")
    parser.add_argument(
        "--transcoders", metavar="SOURCE", help="transcoders to begin with: a folder, embedded"
    )
    parser.add_argument("--no-browser", action="store_true", help="do not open a browser")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Serve the dashboard in the place of this process. Raises ScxError when it cannot begin."""
    command, environment = app_command(args), os.environ | begin_with(args)
    os.chdir(a_folder(args.folder))
    if environment.keys() & {f"SCX_{name.upper()}" for name in SOURCES}:
        (runs_root() / LAST_USED).unlink(
            missing_ok=True
        )  # what is named now comes before what was in use last
    sys.stdout.flush()
    if os.name == "posix":
        os.execve(sys.executable, command, environment)
    try:
        sys.exit(subprocess.call(command, env=environment))
    except KeyboardInterrupt:
        return {}


def summary(result: Mapping[str, Any]) -> str:
    return ""


def app_command(args: argparse.Namespace) -> list[str]:
    """The command that serves the dashboard. Its other settings: `.streamlit/config.toml` beside app.py."""
    # -P: a folder called pages or a torch.py in the current folder must not come in the place of ours.
    command = [sys.executable, "-P", "-m", "streamlit", "run", str(app_folder() / "app.py")]
    command += ["--server.address", args.host, "--browser.gatherUsageStats", "false"]
    if args.port is not None:
        if not 0 < args.port < 65536:
            raise ScxError(f"{args.port} is no port.", "Give a number from 1 to 65535.")
        command += ["--server.port", str(args.port)]
    for name in (
        *LOCAL[:2],
        *([] if args.host in (*LOCAL, "0.0.0.0", "::") else [args.host]),
        *args.allow_host,
    ):
        command += ["--server.allowedHosts", name]
    screen = sys.platform in ("win32", "darwin") or {"DISPLAY", "WAYLAND_DISPLAY"} & set(os.environ)
    if screen and sys.stdout.isatty() and not args.no_browser:
        command += ["--server.headless", "false"]
    return command


def begin_with(args: argparse.Namespace) -> dict[str, str]:
    """The environment that says what is in use at first; paths are made absolute. Raises ScxError for a path
    that is not there."""
    given = {name: getattr(args, name) for name in SOURCES if getattr(args, name)}
    for name, source in given.items():
        looks_like_path = name == "data" or source.startswith((".", "/", "~"))
        path = Path(source).expanduser()
        if path.exists():
            given[name] = str(path.resolve())
        elif looks_like_path and source not in ("embedded", "planted"):
            raise ScxError(f"--{name} {source} is not there.", "Give the path of a file or folder.")
    return {f"SCX_{name.upper()}": source for name, source in given.items()}


def a_folder(text: str) -> Path:
    """An existing folder that may be written to. Raises ScxError."""
    folder = Path(text).expanduser()
    if not folder.is_dir():
        raise ScxError(f"--folder {text} is no folder.", "Make it first, or name another one.")
    if not os.access(folder, os.W_OK):
        raise ScxError(f"{folder.resolve()} may not be written to.", "Name another place with --folder.")
    return folder
