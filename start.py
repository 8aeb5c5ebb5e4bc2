"""Set everything up and open the app: `python3 start.py`. Pass the tests: `python3 start.py test`.

Needs Python >= 3.11 and nothing else. Everything is installed into a virtual environment beside this file
(`.venv`, or the folder that SCX_VENV names), so that it also works where the system's Python refuses
installs. What is there already is used again; what was left half-finished is made anew.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent
OLDEST = (3, 11)
TESTS = "requirements-test.txt"
# For tests, without what it depends on; the tests that need it are skipped where it cannot be had.
ALONE = "requirements-test-alone.txt"
# A file's tests stay together: they share what its fixtures made.
AT_ONCE = ("--numprocesses=auto", "--dist=loadfile")
# Settings of the surroundings that would send installs or imports elsewhere.
UNWANTED = ("PYTHONHOME", "PYTHONPATH", "PIP_USER", "PIP_TARGET", "PIP_PREFIX", "PIP_REQUIRE_VIRTUALENV")


def main(argv: list[str]) -> int:
    """Set up, then open the app or pass the tests. Returns the exit code."""
    if sys.version_info < OLDEST:
        wanted, found = ".".join(map(str, OLDEST)), ".".join(map(str, sys.version_info[:3]))
        print(f"scX needs Python {wanted} or newer; {sys.executable} is {found}.", file=sys.stderr)
        print("Install a newer Python (https://www.python.org) and call start.py with it.", file=sys.stderr)
        return 2
    if argv[:1] == ["test"]:
        python = set_up(TESTS)
        os.environ.setdefault("OMP_NUM_THREADS", "1")  # as many test files at once as there are cores
        return run([python, "-m", "pytest", *AT_ONCE, *argv[1:]]) if python else 1
    options = parse(argv)
    python = set_up("requirements.txt")
    return run(app_command(python, options)) if python else 1


def parse(argv: list[str]) -> argparse.Namespace:
    """The options of the app."""
    parser = argparse.ArgumentParser(
        prog="start.py", description="Set up and open scX.", epilog="`start.py test [pytest options]` tests."
    )
    parser.add_argument("--port", type=int, help="port of the app (default: 8501, or the next free one)")
    parser.add_argument("--no-browser", action="store_true", help="do not open a browser")
    return parser.parse_args(argv)


def app_command(python: str, options: argparse.Namespace) -> list[str]:
    """The command that serves the app."""
    command = [python, "-m", "streamlit", "run", "app.py"]
    if options.port is not None:
        command += ["--server.port", str(options.port)]
    screen = sys.platform in ("win32", "darwin") or {"DISPLAY", "WAYLAND_DISPLAY"} & set(os.environ)
    if screen and sys.stdout.isatty() and not options.no_browser:
        command += ["--server.headless", "false"]
    return command


def run(command: list[str]) -> int:
    """Run `command` in the project's folder, in our place where the system can do that."""
    os.chdir(ROOT)
    sys.stdout.flush()
    if os.name == "posix":
        os.execve(command[0], command, surroundings())
    try:
        return subprocess.call(command, env=surroundings())
    except KeyboardInterrupt:
        return 130


def surroundings() -> dict[str, str]:
    """The environment variables without those that would mix in another Python's packages."""
    return {key: value for key, value in os.environ.items() if key not in UNWANTED}


# setting up ---------------------------------------------------------------------------------------------


def set_up(requirements: str) -> str:
    """Make the environment hold `requirements`; the path of its Python, or "" after telling what failed."""
    folder = Path(os.environ.get("SCX_VENV") or ROOT / ".venv").absolute()
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not works(python) and not make_environment(folder):
        return ""
    wanted = fingerprint(requirements)
    if installed(folder).get(requirements) != wanted and not install(folder, python, requirements, wanted):
        return ""
    return str(python)


def works(python: Path) -> bool:
    """Whether this is a Python of the right age with pip, in an environment of its own."""
    check = f"import sys, pip; sys.exit(sys.version_info < {OLDEST} or sys.prefix == sys.base_prefix)"
    try:
        done = subprocess.run(
            [str(python), "-c", check], env=surroundings(), capture_output=True, check=False
        )
    except OSError:
        return False
    return done.returncode == 0


def make_environment(folder: Path) -> bool:
    """A new environment in `folder`. Only an environment that is broken is replaced, never another folder."""
    if folder.exists() and any(folder.iterdir()) and not (folder / "pyvenv.cfg").exists():
        print(f"{folder} is there already and is no virtual environment. Move it away.", file=sys.stderr)
        return False
    print(f"Making a Python environment in {folder} ...", flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    if subprocess.call([sys.executable, "-m", "venv", str(folder)], env=surroundings()) == 0:
        return True
    shutil.rmtree(folder, ignore_errors=True)
    print("Python could not make a virtual environment. On Debian and Ubuntu: ", file=sys.stderr, end="")
    print(f"sudo apt install python{sys.version_info[0]}.{sys.version_info[1]}-venv", file=sys.stderr)
    return False


def install(folder: Path, python: Path, requirements: str, wanted: str) -> bool:
    """Install with pip, and note it once it is done: an interrupted install is taken up again next time."""
    print(f"Installing {requirements} (the first time takes several minutes) ...", flush=True)
    command = [str(python), "-m", "pip", "install", "--disable-pip-version-check"]
    if subprocess.call([*command, "-r", str(ROOT / requirements)], env=surroundings()) != 0:
        print("pip could not install everything (see above). Mend that and start again.", file=sys.stderr)
        return False
    if requirements == TESTS and (ROOT / ALONE).is_file():
        alone = [*command, "--no-deps", "-r", str(ROOT / ALONE)]
        if subprocess.call(alone, env=surroundings()) != 0:
            print(f"{ALONE} could not be installed: the tests that need it will be skipped.", flush=True)
    notes = installed(folder) | {requirements: wanted}
    if requirements == TESTS:  # it holds the other
        notes["requirements.txt"] = fingerprint("requirements.txt")
    note = folder / "scx-installed.json"
    note.with_suffix(".tmp").write_text(json.dumps(notes), encoding="utf-8")
    note.with_suffix(".tmp").replace(note)
    return True


def installed(folder: Path) -> dict[str, str]:
    """What was installed here to the end: requirements file → its fingerprint then."""
    try:
        notes = json.loads((folder / "scx-installed.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return notes if isinstance(notes, dict) else {}


def fingerprint(requirements: str) -> str:
    """Changes whenever there is something new to install."""
    names = {"requirements.txt", requirements}
    if requirements == TESTS and (ROOT / ALONE).is_file():
        names.add(ALONE)
    return hashlib.sha256(b"".join((ROOT / name).read_bytes() for name in sorted(names))).hexdigest()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
