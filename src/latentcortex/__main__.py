"""`python -m latentcortex` is the command `latentcortex`."""

from __future__ import annotations

import os
import sys
from contextlib import suppress

# Python puts the current folder first: a `random.py` beside a study would be run in place of the library's.
with suppress(FileNotFoundError):  # it was deleted
    if not sys.flags.safe_path and sys.path[0] in ("", os.getcwd()):
        del sys.path[0]

from latentcortex.cli import main

if __name__ == "__main__":
    sys.exit(main())
