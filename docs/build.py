"""Build the documentation site: `python docs/build.py`, then open docs/_build/html/index.html.

    python docs/build.py [--out FOLDER] [--quick]

A warning is an error. `--quick` keeps what notebooks gave the last time and draws no gallery: for writing.
Needs `pip install -r requirements-docs.txt`.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import sys
import tempfile
from pathlib import Path

DOCS = Path(__file__).resolve().parent
MADE = ("gallery_built", "reference/generated")


def main() -> int:
    """Build; 0 when there was no warning."""
    parser = argparse.ArgumentParser(description="Build the documentation site.")
    parser.add_argument("--out", type=Path, default=DOCS / "_build" / "html", help="folder of the site")
    parser.add_argument("--quick", action="store_true", help="keep notebooks' outputs, draw no gallery")
    args = parser.parse_args()
    doctrees = DOCS / "_build" / "doctrees"
    if args.quick:
        os.environ |= {"SCX_DOCS_EXECUTE": "cache", "SCX_DOCS_GALLERY": "False"}
    else:
        for path in (args.out, doctrees, *(DOCS / name for name in MADE)):
            shutil.rmtree(path, ignore_errors=True)
    from sphinx.cmd.build import main as sphinx

    (DOCS / "sg_execution_times.rst").unlink(missing_ok=True)
    given = ["-W", "--keep-going", "-q", "-b", "html", "-d", str(doctrees), str(DOCS), str(args.out)]
    with tempfile.TemporaryDirectory(prefix="scx-docs-") as runs:  # nothing measured before is found
        os.environ["SCX_RUNS"] = runs
        failed = sphinx(given)
    spent = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    own, notebooks = (one.ru_utime + one.ru_stime for one in spent)
    done = "Not built" if failed else f"Built {args.out}"
    print(f"{done}, {own + notebooks:.0f} s of processor time, {notebooks:.0f} of them in notebooks.")
    return failed


if __name__ == "__main__":
    sys.exit(main())
