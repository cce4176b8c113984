"""The house rules that a machine can check: banned calls, sizes, facts stated twice, imports, the README."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from pathlib import PurePosixPath as Posix

import pytest
from _paths import ROOT

import latentcortex

SRC = ROOT / "src" / "latentcortex"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

MODULES = sorted(SRC.rglob("*.py"))
SCRIPTS = sorted(path for folder in ("training", "examples", "benchmarks") for path in (ROOT / folder).rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))

STARTS_SOMETHING = {"_thread", "asyncio", "concurrent", "multiprocessing", "pty", "subprocess"}
STARTERS = re.compile(
    r"(threading\.(Thread|Timer|_start_new_thread)|os\.(fork|forkpty|popen|startfile|system|exec\w+|spawn\w+|posix_spawnp?))"
)

RUNS_CODE_FROM_DATA = {"pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
BANNED_CALLS = {"eval", "exec", "torch.load", "yaml.load", "yaml.unsafe_load", "os.system", "os.popen"}
BANNED_KEYWORDS = {"shell", "allow_pickle", "trust_remote_code"}
"""Allowed only with the value False."""
NEVER_KEYWORDS = {"custom_pipeline"}

TORCH_AT_THE_TOP = {"latentcortex._ldm"}
"""Modules that need an extra to be imported at all; whoever uses them imports them at use."""


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else "?"


def is_false(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is False


def code_from_data(tree: ast.AST) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            roots = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            roots = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            roots = []
        for root in roots:
            if root.split(".")[0] in RUNS_CODE_FROM_DATA or root in BANNED_CALLS:
                yield node.lineno, f"import {root}"
        if not isinstance(node, ast.Call):
            continue
        if dotted(node.func) in BANNED_CALLS:
            yield node.lineno, f"{dotted(node.func)}()"
        for keyword in node.keywords:
            if keyword.arg in NEVER_KEYWORDS or (keyword.arg in BANNED_KEYWORDS and not is_false(keyword.value)):
                yield node.lineno, f"{keyword.arg}="


def broad_excepts(tree: ast.AST) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if not isinstance(node, ast.ExceptHandler):
            continue
        caught = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
        broad = any(kind is None or dotted(kind) in {"Exception", "BaseException"} for kind in caught)
        last = node.body[-1]
        if broad and not (isinstance(last, ast.Raise) and last.exc is None):
            yield node.lineno, "broad except that does not raise again"


def prints(tree: ast.AST) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and dotted(node.func) == "print":
            yield node.lineno, "print()"


def fixed_temporary_names(tree: ast.AST) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and re.search(r"\.(tmp|temp)$", node.value):
            yield node.lineno, f"fixed temporary name {node.value!r} (use _files.writing)"


def started(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Find what starts threads or processes: what is imported for it, and what is named."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Attribute):
            names = [dotted(node)]
        else:
            continue
        for name in names:
            if name.split(".")[0] in STARTS_SOMETHING or STARTERS.fullmatch(name):
                yield node.lineno, f"{name} outside of executors"


def breaches(path: Path) -> list[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    rules = [code_from_data]
    if path in MODULES:
        rules += [broad_excepts, fixed_temporary_names]
        rules += [] if path == SRC / "cli.py" else [prints]
        rules += [] if path.parent == SRC / "executors" else [started]
    return [f"{name_of(path)}:{line}: {what}" for rule in rules for line, what in rule(tree)]


@pytest.mark.parametrize("path", MODULES + SCRIPTS, ids=name_of)
def test_nothing_banned_is_used(path: Path) -> None:
    assert breaches(path) == []


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "from joblib import load",
        "from torch import load",
        "torch.load('x')",
        "eval('1')",
        "subprocess.run('x', shell=True)",
        "np.load('x', allow_pickle=True)",
        "f(trust_remote_code=flag)",
        "f(custom_pipeline='x')",
    ],
)
def test_the_ban_list_finds_code_that_runs_from_data(code: str) -> None:
    assert list(code_from_data(ast.parse(code)))


def test_the_ban_list_lets_safe_code_pass() -> None:
    safe = "model.eval()\nnp.load('x', allow_pickle=False)\njson.load(handle)\nyaml.safe_load(text)"
    assert not list(code_from_data(ast.parse(safe)))


def test_the_ban_list_finds_broad_excepts_and_fixed_temporary_names() -> None:
    swallowed = "try:\n    f()\nexcept (OSError, Exception) as error:\n    log(error)"
    raised = "try:\n    f()\nexcept BaseException:\n    clean()\n    raise"
    assert list(broad_excepts(ast.parse(swallowed)))
    assert not list(broad_excepts(ast.parse(raised)))
    assert list(fixed_temporary_names(ast.parse("part = f'{path}.tmp'")))


@pytest.mark.parametrize(
    "code",
    [
        "from concurrent.futures import ThreadPoolExecutor",
        "import multiprocessing.pool",
        "import subprocess",
        "from threading import Lock, Thread",
        "thread = threading.Thread(target=f)",
        "pid = os.fork()",
        "from os import posix_spawn",
        "start = os.spawnvp",
    ],
)
def test_what_starts_a_thread_or_a_process_is_found(code: str) -> None:
    assert list(started(ast.parse(code)))
    assert not list(started(ast.parse("import threading\nlock = threading.Lock()\nos.environ['A']")))


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def n_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Count a function's lines without its docstring."""
    first = function.body[0]
    has_docstring = ast.get_docstring(function, clean=False) is not None
    docstring = (first.end_lineno or 0) - first.lineno + 1 if has_docstring else 0
    return (function.end_lineno or 0) - function.lineno + 1 - docstring


def n_parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Count a function's parameters without `self` and `cls`."""
    arguments = function.args
    named = [a.arg for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
    stars = [a for a in (arguments.vararg, arguments.kwarg) if a is not None]
    return len([name for name in named if name not in {"self", "cls"}]) + len(stars)


@pytest.mark.parametrize("path", MODULES + SCRIPTS + TESTS, ids=name_of)
def test_files_are_short(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 500


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_functions_are_short(path: Path) -> None:
    assert [f.name for f in functions(path) if n_lines(f) > 80] == []
    assert [f.name for f in functions(path) if n_parameters(f) > 8] == []


def cited(key: str) -> str:
    """Return a top-level value of CITATION.cff, which is too simple to need a YAML parser."""
    found = re.search(rf"^{key}: *(\S+) *$", (ROOT / "CITATION.cff").read_text(encoding="utf-8"), re.MULTILINE)
    assert found, f"CITATION.cff has no {key}"
    return found[1].strip("\"'")


def test_version_and_licence_are_stated_alike_everywhere() -> None:
    assert cited("version") == PROJECT["version"] == version("latentcortex") == latentcortex.__version__
    assert cited("license") == PROJECT["license"]
    assert f"## [{PROJECT['version']}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert (ROOT / "LICENSE").read_text(encoding="utf-8").startswith("BSD 3-Clause")


def in_fresh_python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


HEAVY = ["torch", "diffusers", "transformers", "nilearn", "himalaya", "matplotlib.pyplot", "pydantic"]


@pytest.mark.parametrize("heavy", HEAVY)
def test_importing_the_package_imports_nothing_heavy(heavy: str) -> None:
    assert in_fresh_python(f"import sys, latentcortex; print({heavy!r} in sys.modules)").strip() == "False"


def test_every_public_name_is_found() -> None:
    assert in_fresh_python("import latentcortex as lc; [getattr(lc, name) for name in lc.__all__]") == ""


def import_all(*, but: set[str], without: set[str]) -> None:
    code = f"""
import importlib, pkgutil, sys

class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {without}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Hidden())
import latentcortex
for module in pkgutil.walk_packages(latentcortex.__path__, "latentcortex."):
    if module.name not in {but}:
        importlib.import_module(module.name)
"""
    in_fresh_python(code)


def test_every_module_imports_without_any_extra() -> None:
    extras = {"torch", "torchvision", "diffusers", "transformers", "cortex", "svgelements", "dask", "plotly"}
    import_all(but=TORCH_AT_THE_TOP, without=extras)


def test_every_module_imports() -> None:
    pytest.importorskip("torch")
    import_all(but=set(), without=set())


def test_import_contracts_hold() -> None:
    pytest.importorskip("importlinter.cli")
    # In a process of its own, since it reconfigures logging.
    call = "import sys; from importlinter.cli import lint_imports as lint; sys.exit(lint(no_cache=True, no_logo=True))"
    found = subprocess.run([sys.executable, "-c", call], cwd=ROOT, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout


def fenced(marker: str) -> str:
    """Return the fenced block of the README that follows a marker comment."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    found = re.search(rf"<!-- {marker} -->\n```\w*\n(.*?)\n```", text, re.DOTALL)
    assert found, f"README.md has no fenced block after <!-- {marker} -->"
    return found[1]


def test_readme_commands_are_one_line_each() -> None:
    assert "\n" not in fenced("test command")
    assert "\n" not in fenced("demo command")


def test_readme_examples_can_be_parsed() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```(python|toml)\n(.*?)\n```", text, re.DOTALL)
    assert {language for language, _ in blocks} == {"python", "toml"}
    for language, block in blocks:
        ast.parse(block) if language == "python" else tomllib.loads(block)


def test_readme_tree_lists_every_module_once_and_nothing_else() -> None:
    first, *rest = fenced("tree").splitlines()
    assert first == "src/latentcortex/"
    listed, above = [], {0: Posix()}
    for line in rest:
        depth = (len(line) - len(line.lstrip())) // 4
        name, what = line.split(maxsplit=1)
        assert what, f"{name} needs a few words"
        above[depth] = above[depth - 1] / name if depth > 1 else Posix(name)
        listed.append(above[depth].as_posix())
    relative = [path.relative_to(SRC) for path in MODULES]
    modules = [p.parent if p.name == "__init__.py" and p.parent != Path() else p for p in relative]
    assert sorted(listed) == sorted(path.as_posix() for path in modules)


def test_installed_package_has_all_data_files() -> None:
    installed = Path(latentcortex.__file__).parent
    beside = [path for path in SRC.rglob("*") if path.is_file() and path.suffix not in {".py", ".pyc"}]
    assert [str(p.relative_to(SRC)) for p in beside if not (installed / p.relative_to(SRC)).is_file()] == []
    if installed != SRC:
        atlases = [path.relative_to(ROOT / "atlases") for path in (ROOT / "atlases").rglob("*") if path.is_file()]
        assert [str(path) for path in atlases if not (installed / "_atlases" / path).is_file()] == []
