"""`python -m latentcortex` is the command `latentcortex`."""

from __future__ import annotations

import sys

from latentcortex.cli import main

if __name__ == "__main__":
    sys.exit(main())
