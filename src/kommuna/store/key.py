"""The cache key: what a step would do, as one digest. Computed without importing the step."""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.metadata
import json
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import kommuna
from kommuna.errors import StepNotFound

# Import names whose distribution is called otherwise.
_DISTRIBUTIONS = {"sklearn": "scikit-learn", "yaml": "pyyaml", "stdnum": "python-stdnum", "bs4": "beautifulsoup4"}
_PYTHON_REFERENCE = re.compile(r"""python:\s*["']?([A-Za-z_][\w.]*):[A-Za-z_]\w*""")


def cache_key(function: str, code: str, params: Mapping[str, Any], inputs: Mapping[str, Any]) -> str:
    """The key of one step's run.

    Args:
        function: `module:function`.
        code: `code_digest` of what it runs.
        params: JSON parameters, each as its step's signature has it (`canonical`).
        inputs: input name to content digest (or dict/list of them; None for an absent optional one).
    """
    document = json.dumps([function, code, params, inputs], sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(document.encode()).hexdigest()


def code_digest(modules: Iterable[str], *, bundle: Path | None = None) -> str:
    """A hash of modules, of all that they import from Kommuna or the team's bundle, and of library versions.

    Comments and layout do not count; docstrings do. Files that code reads at run time are not seen: hand them to
    the step as inputs.

    Args:
        modules: dotted names to start from.
        bundle: the team's folder, searched first.
    Raises:
        StepNotFound: a module is neither in the bundle nor in Kommuna nor installed.
    """
    roots = source_roots(bundle)
    files: dict[str, str] = {}
    outside: set[str] = set()
    todo = list(modules)
    for name in todo:
        if source_file(name, roots) is None and not _installed(name):
            raise StepNotFound(f"no module '{name}'", where=str(bundle or ""), mend="a step is named 'module:function'")
    while todo:
        name = todo.pop()
        if name in files or name in outside:
            continue
        path = source_file(name, roots)
        if path is None:
            outside.add(name)
            continue
        files[name], imports = _digest_and_imports(path, name)
        parents = [name.rsplit(".", i)[0] for i in range(1, name.count(".") + 1)]
        todo.extend([*parents, *(i for i in imports if i.partition(".")[0] not in sys.stdlib_module_names)])
    versions = {top: _version(top) for top in {name.partition(".")[0] for name in outside} - {"kommuna"}}
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    return hashlib.sha256(json.dumps([python, sorted(files.items()), sorted(versions.items())]).encode()).hexdigest()


def python_references(path: Path) -> list[str]:
    """Modules that a YAML file names as `python: module:function`: their code counts as the file's content."""
    if path.suffix not in (".yaml", ".yml"):
        return []
    return sorted(set(_PYTHON_REFERENCE.findall(path.read_text(encoding="utf-8", errors="replace"))))


def source_roots(bundle: Path | None) -> list[Path]:
    """Where the source of steps is looked for: the team's bundle, then Kommuna."""
    return [root for root in (bundle, Path(kommuna.__file__).parent.parent) if root is not None]


def source_file(name: str, roots: list[Path]) -> Path | None:
    """The file of a module; None where it is in no root."""
    for root in roots:
        stem = root.joinpath(*name.split("."))
        for path in (stem.with_name(f"{stem.name}.py"), stem / "__init__.py"):
            if path.is_file():
                return path
    return None


def _digest_and_imports(path: Path, name: str) -> tuple[str, list[str]]:
    source = path.read_bytes()
    try:
        tree = ast.parse(source, filename=str(path))
    except SyntaxError as error:
        raise StepNotFound(
            f"{path.name} is not valid Python: {error.msg}", where=f"{path}:{error.lineno}", mend="mend the syntax"
        ) from None
    imports: list[str] = []
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imports += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.rsplit(".", node.level - 1)[0] if node.level > 1 else package
                base = f"{above}.{base}".strip(".")
            # `from package import name`: the name may be a module; where it is none, `source_file` does not find it
            imports += [base, *(f"{base}.{alias.name}" for alias in node.names)] if base else []
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest(), imports


@functools.cache
def _version(top: str) -> str:
    try:
        return importlib.metadata.version(_DISTRIBUTIONS.get(top, top))
    except importlib.metadata.PackageNotFoundError:
        return ""


def _installed(name: str) -> bool:
    import importlib.util

    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False
