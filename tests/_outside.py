"""Runs of the command line in processes that a machine or a signal stops, forked from one that has imported everything.

A program given to `in_one_process` runs in the process that forks. It has `start(*arguments)`, which forks one that
runs a command, and `end(child)`, which waits for it and returns its exit code and what it wrote to stderr.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

FORKS = """
import json, os, pathlib, random, shutil, signal, sys, tempfile, time
import matplotlib.figure, nilearn.image, PIL.PngImagePlugin, scipy.stats, sklearn.linear_model
from latentcortex import cli, study
from latentcortex.estimators import banded_ridge
from latentcortex.extractors import pixels
from latentcortex.datasets import folder
from latentcortex.encoding import fitted

said = []
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # whoever started the tests may have had it ignored, as nohup does

def start(*arguments, before=lambda: None):
    stderr = tempfile.TemporaryFile()
    pid = os.fork()
    if pid == 0:
        os.dup2(stderr.fileno(), 2)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        code = 70
        try:
            before()
            code = cli.main([str(argument) for argument in arguments])
        except BaseException:
            import traceback
            traceback.print_exc()
        finally:
            os._exit(code)
    return pid, stderr

def end(child):
    pid, stderr = child
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    stderr.seek(0)
    return code, stderr.read().decode()

"""


def in_one_process(program: str, folder: Path, *arguments: Any, under: tuple[str, ...] = ()) -> Any:
    """Run a program in a folder, perhaps under another one; return what it printed as JSON."""
    command = [*under, sys.executable, "-c", FORKS + program, *map(str, arguments)]
    done = subprocess.run(command, cwd=folder, check=True, timeout=1500, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def bound_by_permissions() -> tuple[str, ...] | None:
    """Say under what a process is refused what permissions refuse, which root is not; None if there is no such way."""
    if os.geteuid():
        return ()
    if shutil.which("setpriv") is None:
        return None
    lost = "-dac_override,-dac_read_search"
    return "setpriv", f"--bounding-set={lost}", f"--inh-caps={lost}"


def numbers(folder: Path) -> dict[str, bytes]:
    """Content of the files that hold numbers, without times or paths."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    kept = {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}
    return {
        name: content for name, content in kept.items() if "/func/" in name or "/figures/" in name or "block-" in name
    }
