"""`python -m scx_core …` is the command line."""

import sys

from scx_core.cli import main

if __name__ == "__main__":
    sys.exit(main())
