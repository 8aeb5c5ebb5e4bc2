"""Build the sdist, from it the wheel, and use the wheel as somebody who has nothing else of ours.

    python .ci/package.py FOLDER      # an empty folder outside the checkout

Run by the interpreter of the test environment. The wheel goes into a fresh environment that holds exactly
what its metadata ask for: the files of these packages, and of what they in turn ask for, are linked from the
test environment (torch alone is 800 MB). What is imported and not declared is therefore missing here, though
the tests have it.
Ends with 1 and the reason at the first thing that is not as it should be.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

T = TypeVar("T")
ROOT = Path(__file__).resolve().parents[1]
WINDOWS = os.name == "nt"
TYPE = "CD19+ B"
# Without what would lead to other packages than those of the new environment.
CLEAN = {key: value for key, value in os.environ.items() if not key.startswith(("SCX_", "PYTHON"))}
CLEAN |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}


def main(place: Path) -> None:
    """All steps, each with its time."""
    dist, work = place / "dist", place / "empty"
    work.mkdir(parents=True)
    sdist, wheel = timed("sdist, and the wheel from it", build, dist)
    timed("what they contain", check_contents, sdist, wheel)
    python = timed("a fresh environment", fresh_environment, place / "env", wheel)
    timed("the wheel installed, pip check", install, python, wheel)
    before = files_of(python)
    timed("every module imported", run, python, work, "-c", IMPORT_ALL)
    timed("scx demo", scx, python, work, "demo", "--type", TYPE, "--cells", "5")
    timed("one circuit, exported", export_one, python, work)
    timed("scx app", ask_app, python, work)
    if changed := files_of(python) ^ before:
        raise SystemExit(f"The installed package was written to: {sorted(changed)[:5]}")


def timed(what: str, function: Callable[..., T], *words: Any) -> T:
    """Call, and say how long it took."""
    start = time.monotonic()
    result = function(*words)
    print(f"    {what}: {time.monotonic() - start:.0f} s", flush=True)
    return result


def build(dist: Path) -> tuple[Path, Path]:
    """The sdist of the checkout, and the wheel that the sdist makes."""
    quiet = subprocess.run(
        [sys.executable, "-m", "build", "--outdir", str(dist), str(ROOT)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    if quiet.returncode:
        raise SystemExit(quiet.stdout)
    (sdist,), (wheel,) = dist.glob("*.tar.gz"), dist.glob("*.whl")
    return sdist, wheel


def check_contents(sdist: Path, wheel: Path) -> None:
    """One package and its metadata in the wheel, with dashboard and models; all sources in the sdist."""
    names = set(zipfile.ZipFile(wheel).namelist())
    tops = {name.split("/")[0] for name in names}
    if {top for top in tops if not top.endswith(".dist-info")} != {"scx_core"}:
        raise SystemExit(f"The wheel brings {sorted(tops)} into site-packages.")
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    inside = {"models/": "scx_core/_models/", "pages/": "scx_core/_app/pages/", "scx_core/": "scx_core/"}
    wanted = {"scx_core/_app/app.py", "scx_core/_app/.streamlit/config.toml"}
    for old, new in inside.items():
        wanted |= {new + path[len(old) :] for path in tracked.splitlines() if path.startswith(old)}
    if missing := wanted - names:
        raise SystemExit(f"The wheel lacks {sorted(missing)[:5]} and {len(missing)} in all.")
    with tarfile.open(sdist) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    needed = {path for path in tracked.splitlines() if not path.startswith((".ci/", ".github/"))}
    if missing := needed - held:
        raise SystemExit(f"The sdist lacks {sorted(missing)[:5]} and {len(missing)} in all.")


def fresh_environment(folder: Path, wheel: Path) -> Path:
    """An environment with pip and what the wheel asks for; its Python."""
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True, env=CLEAN)
    python = folder / ("Scripts/python.exe" if WINDOWS else "bin/python")
    there = Path(subprocess.run([python, "-c", PURELIB], capture_output=True, text=True, check=True).stdout)
    here = Path(sysconfig.get_paths()["purelib"])
    for found in closure(wheel):
        for file in found.files or ():
            source, target = Path(str(found.locate_file(file))), there / file
            if ".." in file.parts or not source.is_file() or here not in source.parents:
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            if not target.exists():
                link(source, target)
    return python


def closure(wheel: Path) -> list[metadata.Distribution]:
    """The installed packages that the wheel asks for, and all that these ask for. Raises SystemExit for
    one that the test environment lacks."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [one for one in archive.namelist() if one.endswith(".dist-info/METADATA")]
        text = archive.read(name).decode()
    asked = [line.partition(": ")[2] for line in text.splitlines() if line.startswith("Requires-Dist: ")]
    wanted = [(line, frozenset[str]()) for line in asked]
    found: dict[str, metadata.Distribution] = {}
    done: set[tuple[str, frozenset[str]]] = set()
    while wanted:
        line, extras = wanted.pop()
        one = Requirement(line)
        if one.marker and not any(one.marker.evaluate({"extra": extra}) for extra in {"", *extras}):
            continue
        key = (canonicalize_name(one.name), frozenset(one.extras))
        if key in done:
            continue
        done.add(key)
        try:
            found[key[0]] = metadata.distribution(one.name)
        except metadata.PackageNotFoundError:
            raise SystemExit(f"{line} is declared and not in requirements.txt's environment.") from None
        wanted += [(further, key[1]) for further in found[key[0]].requires or ()]
    return list(found.values())


def link(source: Path, target: Path) -> None:
    """The same file under another name, or a copy where that cannot be."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def install(python: Path, wheel: Path) -> None:
    """With pip, from this wheel alone: whatever its metadata ask for must be there."""
    pip = ["-m", "pip", "--disable-pip-version-check"]
    run(python, wheel.parent, *pip, "install", "--quiet", "--no-index", str(wheel))
    run(python, wheel.parent, *pip, "check")


def run(python: Path, folder: Path, *words: str) -> str:
    """What the new environment's Python prints. Raises SystemExit when it fails."""
    done = subprocess.run(
        [python, *words], cwd=folder, env=CLEAN, capture_output=True, text=True, check=False
    )
    if done.returncode:
        said = f"{done.stdout[-2000:]}{done.stderr[-4000:]}"
        raise SystemExit(f"{' '.join(words)[:200]} ended with {done.returncode}:\n{said}")
    return done.stdout


def scx(python: Path, folder: Path, *words: str) -> str:
    """What the installed command prints."""
    command = python.parent / ("scx.exe" if WINDOWS else "scx")
    done = subprocess.run(
        [command, *words], cwd=folder, env=CLEAN, capture_output=True, text=True, check=False
    )
    if done.returncode or not done.stdout.strip():
        raise SystemExit(f"scx {' '.join(words)} ended with {done.returncode}:\n{done.stderr[-4000:]}")
    return done.stdout


def export_one(python: Path, folder: Path) -> None:
    """A circuit in every format, none of them empty."""
    scx(python, folder, "circuit", "--type", TYPE, "--cells", "5", "--json", "circuit.json")
    scx(python, folder, "export", "circuit.json", "--out", "exports")
    endings = {path.suffix for path in (folder / "exports").iterdir() if path.stat().st_size > 100}
    if missing := {".png", ".svg", ".pdf", ".html", ".graphml", ".json", ".csv"} - endings:
        raise SystemExit(f"The export lacks {sorted(missing)}.")


def ask_app(python: Path, folder: Path) -> None:
    """The dashboard answers on its health address and serves its page; then each page is run."""
    port = int(run(python, folder, "-c", FREE_PORT))
    command = [
        str(python.parent / ("scx.exe" if WINDOWS else "scx")),
        "app",
        "--port",
        str(port),
        "--no-browser",
    ]
    with (folder / "app.log").open("w") as log:
        served = subprocess.Popen(command, cwd=folder, env=CLEAN, stdout=log, stderr=subprocess.STDOUT)
        try:
            if wait_for(f"http://localhost:{port}/_stcore/health") != "ok":
                raise SystemExit(f"scx app did not answer:\n{(folder / 'app.log').read_text()[-2000:]}")
            if "<title>" not in wait_for(f"http://localhost:{port}/"):
                raise SystemExit("scx app serves no page.")
        finally:
            served.terminate()
            served.wait(timeout=30)
    run(python, folder, "-c", EVERY_PAGE)


def wait_for(address: str, seconds: float = 60) -> str:
    """What the address answers once it does; "" when it does not."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            with urllib.request.urlopen(address, timeout=5) as answer:
                return answer.read().decode()
        except (urllib.error.URLError, OSError):
            time.sleep(0.3)
    return ""


def files_of(python: Path) -> set[str]:
    """The installed package's files, without compiled ones."""
    there = Path(subprocess.run([python, "-c", PURELIB], capture_output=True, text=True, check=True).stdout)
    held = (path for path in (there / "scx_core").rglob("*") if path.is_file())
    return {f"{path} {path.stat().st_mtime_ns}" for path in held if path.parent.name != "__pycache__"}


PURELIB = "import sysconfig; print(sysconfig.get_paths()['purelib'], end='')"
FREE_PORT = "import socket; s = socket.socket(); s.bind(('127.0.0.1', 0)); print(s.getsockname()[1])"
IMPORT_ALL = """
import importlib, pkgutil, sys
import scx_core
for module in pkgutil.walk_packages(scx_core.__path__, "scx_core."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
from scx_core.places import app_folder, installed
assert installed() and "site-packages" in scx_core.__file__, scx_core.__file__
"""
EVERY_PAGE = """
import sys
from scx_core.places import app_folder
from streamlit.testing.v1 import AppTest
app = app_folder()
sys.path.insert(0, str(app))
page = AppTest.from_file(app / "app.py", default_timeout=120).run()
assert not page.exception, page.exception
for name in sorted(path.name for path in (app / "pages").glob("[a-z]*.py")):
    page.switch_page(f"pages/{name}").run()
    assert not page.exception, (name, page.exception)
"""


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
