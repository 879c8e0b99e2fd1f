"""Random small bundles that compute something, random edits of them, and what their entry point returns.

Everything that a generated function returns is turned into a number by `read` of a made-up library, which also notes
what runs in which order; so a bundle's result tells apart what ran, when, and with which values.
"""

from __future__ import annotations

import importlib
import random
import re
import sys
import traceback
import types
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LIBRARY = "made_up_library"
PATHS = {
    "steps": "steps.py",
    "a": "a.py",
    "b": "b.py",
    "pkg": "pkg/__init__.py",
    "pkg.x": "pkg/x.py",
}
NAMES = [*["n0", "n1", "n2", "len"] * 6, "x"]
ALIASES = {name: f"m_{name.replace('.', '_')}" for name in PATHS}
HEADER = f"from {LIBRARY} import read, note, register, keep, Base"


@dataclass
class Bundle:
    """Modules as lists of statements."""

    modules: dict[str, list[str]]

    def files(self) -> dict[str, str]:
        """The files' text by path."""
        return {PATHS[name]: "\n".join([HEADER, *lines, ""]) for name, lines in self.modules.items()}

    def write(self, folder: Path) -> Path:
        """Writes the bundle to a folder."""
        for path, source in self.files().items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(source)
        return folder

    def edited(self, rng: random.Random) -> Bundle:
        """The bundle after one random edit."""
        modules = {name: list(lines) for name, lines in self.modules.items()}
        name = rng.choice(sorted(modules))
        lines = modules[name]
        at = rng.randrange(len(lines))
        kind = rng.choice([0, 1, 2, 3, 4, 4, 4, 5, 6, 7, 8, 9, 9])
        if kind == 0:
            lines[at] = _with_another_number(lines[at], rng)
        elif kind == 1:
            del lines[at]
        elif kind == 2:
            lines.insert(at, statement(name, rng))
        elif kind == 3:
            lines[at] = statement(name, rng)
        elif kind == 4:
            lines.insert(rng.randrange(len(lines)), lines.pop(at))
        elif kind == 5:
            lines[at] = re.sub(r"\b(n\d|len|x)\b", lambda m: rng.choice([m.group(), rng.choice(NAMES)]), lines[at])
        elif kind == 6:
            lines[at] = _with_docstring(lines[at])
        elif kind == 7:
            other = modules[rng.choice(sorted(modules))]
            other.insert(rng.randrange(len(other)), lines[at] if lines[at].startswith("def run") else lines.pop(at))
        elif kind == 8:
            lines.insert(at, import_line(name, rng))
        else:
            imports = [index for index, line in enumerate(lines) if re.match("(from|import) .*$", line)]
            if imports:
                lines[rng.choice(imports)] = import_line(name, rng)
        if not any(line.startswith("def run") for line in modules["steps"]) or not all(modules.values()):
            return self.edited(rng)
        return Bundle(modules)


def random_bundle(rng: random.Random) -> Bundle:
    """A bundle whose `steps.run` calls functions of several modules."""
    modules: dict[str, list[str]] = {}
    for name in PATHS:
        imports = [import_line(name, rng) for _ in range(rng.choice([0, 1, 1, 2, 3]))]
        lines = [*imports, *(statement(name, rng) for _ in range(rng.randrange(2, 7)))]
        if rng.random() < 0.2:
            rng.shuffle(lines)
        if rng.random() < 0.1:
            lines.insert(0, f"__all__ = {rng.sample(sorted(set(NAMES)), 2)!r}")
        modules[name] = lines
    modules["steps"] += [import_line("steps", rng) for _ in range(3)]
    calls = ", ".join(f"read(lambda k: read({term('steps', rng)}, k), k)" for _ in range(5))
    modules["steps"].append(f"def run(k):\n    return [{calls}]")
    return Bundle(modules)


def working_bundle(rng: random.Random, folder: Path) -> Bundle:
    """A random bundle without the statements that would make its import fail; written to a folder."""
    bundle = random_bundle(rng)
    while True:
        for attempt in range(60):
            bundle.write(folder / str(attempt))
            place = failing_place(folder / str(attempt))
            if place is None:
                return bundle
            name, line = place
            starts = [1]
            for source in bundle.modules[name]:
                starts.append(starts[-1] + source.count("\n") + 1)
            at = max(index for index, start in enumerate(starts[:-1]) if start < line)
            if bundle.modules[name][at].startswith("def run"):
                break
            bundle.modules[name][at] = "pass"
        bundle = random_bundle(rng)


def import_line(module: str, rng: random.Random) -> str:
    """An import of one of the other modules, in one of Python's forms."""
    target = rng.choice([name for name in PATHS if name not in ("steps", module)])
    alias, name = ALIASES[target], rng.choice(NAMES)
    forms = [
        f"import {target} as {alias}",
        f"from {target} import {name}",
        f"from {target} import {name} as {rng.choice(NAMES)}",
        f"from {target} import *" if rng.random() < 0.3 else f"import {target}",
    ]
    if target.startswith("pkg."):
        forms.append(f"from pkg import {target[4:]} as {alias}")
    if module.startswith("pkg") and target.startswith("pkg."):
        forms += [f"from .{target[4:]} import {name}", f"from . import {target[4:]} as {alias}"]
    return rng.choice(forms)


def term(module: str, rng: random.Random) -> str:
    """Draws an expression: a name, an attribute of a module, a number."""
    roll = rng.random()
    if roll < 0.5:
        return rng.choice(NAMES)
    if roll < 0.8:
        target = rng.choice(sorted(PATHS))
        return f"{rng.choice([ALIASES[target], target])}.{rng.choice(NAMES)}"
    return str(rng.randrange(9))


def statement(module: str, rng: random.Random) -> str:
    """One top-level statement."""
    name, other, number = rng.choice(NAMES), rng.choice(NAMES), rng.randrange(9)
    first, second = term(module, rng), term(module, rng)
    body = f"    return read({first}, k) + {number} * read({second}, k)"
    imported = import_line(module, rng)
    local = imported if "*" not in imported else "pass"
    target = ALIASES[rng.choice(sorted(PATHS))]
    plain = [
        f"{name} = {number}",
        f"{name} = [{number}, {number + 1}]",
        f"{name} = {other}",
        f"{name} = lambda k: read({first}, k)",
        f"def {name}(k):\n{body}",
        f"def {name}(k):\n{body}",
        f"def {name}(k):\n    {other} = {number}\n{body}",
        f"def {name}(k, d={other}):\n    return read(d, k)",
        f"def {name}(k: {other}):\n{body}",
        f"def {name}(k):\n    return sum(read({other}, k) for {other} in [{number}, {first}])",
        f"from functools import cache\n@cache\ndef {name}(k):\n{body}",
        f"class {name}:\n    value = {number}\n    def __init__(self, k): self.k = k\n"
        f"    def number(self): return {number} + read({first}, self.k)",
        f"class {name}({other}):\n    value = {number}",
        f"{import_line(module, rng)}",
    ]
    acting = [
        f"def {name}(k):\n    {local}\n{body}",
        f"def {name}(k):\n    global {other}\n    {other} = {number}\n    return {number}",
        f"@register\ndef {name}(k):\n{body}",
        f"@keep\ndef {name}(k):\n{body}",
        f"try:\n    @{other}\n    def {name}(k):\n    {body}\nexcept Exception: pass",
        f"class {name}(Base):\n    def number(self): return {number}",
        f"class {name}:\n    def __init_subclass__(cls): note({number}, read({first}, 2))",
        f"note({number})",
        f"try: note(read({first}, 2))\nexcept Exception: note({number})",
        f"try: {name} = read({first}, 2) + read({second}, 1)\nexcept Exception: pass",
        f"try: {target}.{name} = {other}\nexcept Exception: note({number})",
        f"try: {other}.value = {number}\nexcept Exception: note({number})",
        f"try:\n    {imported.replace('*', other)}\nexcept Exception: {name} = {number}",
        f"if read({number}, 1) > 4: {name} = {number}\nelse:\n    def {name}(k): return {number}",
        f"for {name} in [{number}]: note({name})",
        f"try: {name} += 1\nexcept Exception: pass",
        f"try: del {name}\nexcept Exception: pass",
        f"if __name__ == '__main__': {name} = {number}",
    ]
    return rng.choice(plain if rng.random() < 0.7 else acting)


def failing_place(folder: Path) -> tuple[str, int] | None:
    """Returns the module and line at which importing a bundle fails; None if it works."""
    error = _run(folder)[2]
    if error is None:
        return None
    if isinstance(error, SyntaxError) and error.filename:
        places = [(error.filename, error.lineno or 1)]
    else:
        places = [(f.filename, f.lineno or 1) for f in traceback.extract_tb(error.__traceback__)]
    inside = [
        (Path(name).relative_to(folder).as_posix(), line) for name, line in places if name.startswith(str(folder))
    ]
    path, line = inside[-1] if inside else ("steps.py", 2)
    return next(name for name, place in PATHS.items() if place == path), max(line, 2)


def outcome(folder: Path) -> tuple[str, frozenset[str]]:
    """Returns the result of `steps.run(3)` in a bundle and the modules that it loads; "" if importing it fails."""
    result, loaded, _ = _run(folder)
    return result, loaded


def _run(folder: Path) -> tuple[str, frozenset[str], Exception | None]:
    library = _library()
    before = set(sys.modules)
    sys.modules[LIBRARY] = library
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    result, failure = "", None
    try:
        run = importlib.import_module("steps").run
        result = repr((run(3), library.notes))
    except Exception as error:
        failure = error
    finally:
        loaded = frozenset(name for name in set(sys.modules) - before if name in PATHS)
        for name in loaded | {LIBRARY}:
            del sys.modules[name]
        sys.path.remove(str(folder))
        for path in [path for path in sys.path_importer_cache if path.startswith(str(folder))]:
            del sys.path_importer_cache[path]
    return result, loaded, failure


def _library() -> Any:
    library: Any = types.ModuleType(LIBRARY)
    library.notes = []
    depth = [0, 0]

    def read(value: Any, k: int) -> int:
        depth[1] += 1
        if depth[0] > 12 or depth[1] > 3000 or k <= 0:
            return 1
        depth[0] += 1
        try:
            if isinstance(value, bool | int):
                return int(value) % 99991
            if isinstance(value, list | tuple):
                return sum(read(item, k) for item in value) + 3
            if isinstance(value, type):
                return int(getattr(value, "value", 5)) + 7 * int(value(k - 1).number())
            if isinstance(value, types.ModuleType):
                return 17
            return int(value(k - 1)) % 99991
        except Exception as error:
            return 1000 + len(type(error).__name__)
        finally:
            depth[0] -= 1

    def note(*values: Any) -> None:
        library.notes.append(values)

    def register(function: Any) -> Any:
        library.notes.append((function.__name__, read(function, 2)))
        return function

    def keep(function: Any) -> Any:
        return lambda k: 1 + function(k)

    class Base:
        def __init__(self, k: int) -> None:
            self.k = k

        def __init_subclass__(cls) -> None:
            library.notes.append(cls.__name__)

    for name, value in {"read": read, "note": note, "register": register, "keep": keep, "Base": Base}.items():
        setattr(library, name, value)
    return library


def _with_another_number(line: str, rng: random.Random) -> str:
    places = [match.span() for match in re.finditer(r"(?<![\w.])\d(?!\w)", line)]
    if not places:
        return line
    start, end = rng.choice(places)
    return f"{line[:start]}{rng.randrange(9)}{line[end:]}"


def _with_docstring(line: str) -> str:
    return re.sub(r"^(def \w+\(.*\):)\n", r'\1\n    """What it is for."""\n', line, flags=re.MULTILINE)
