"""Random edits of a bundle of twenty modules: a cache hit always equals a fresh computation."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.rigs.cache import CacheRig

MODULES = 20
EDITS = 1000 if "FUZZ_MINUTES" in os.environ else 40
Files = dict[str, str]

IMPORTS = (
    "import {m}\n{call} = {m}.value",
    "from {m} import value as {call}",
    "import importlib\n{call} = importlib.import_module('{m}').value",
    "def {call}():\n    import {m}\n    return {m}.value()",
    "try:\n    from {m} import value as {call}\nexcept ImportError:\n    {call} = int",
    "{call} = __import__('{m}').value",
)
READS = (
    "int(Path(__file__).with_name('data.txt').read_text())",
    "len(list(Path(__file__).with_name('plugins').glob('*.py')))",
    "int(Path(__file__).with_name('flag').exists())",
    "len(os.listdir(Path(__file__).with_name('plugins')))",
    "1 if hasattr(colorsys, 'mine') else 0",
)
HEAD = "import colorsys, os\nfrom pathlib import Path\n"


def module(number: int, rng: random.Random) -> str:
    """Draws a module whose `value` depends on modules with higher numbers, constants and files."""
    above = range(number + 1, MODULES)
    used = rng.sample(above, min(len(above), rng.choice((1, 1, 2))))
    lines = [HEAD] if rng.random() < 0.3 or number == 0 else []
    lines += [rng.choice(IMPORTS).format(m=f"m{n}", call=f"from_{n}") for n in used]
    lines.append(f"K = {rng.randrange(100)}\n")
    terms = ["K", *(f"from_{n}()" for n in used)]
    if lines[0] == HEAD:
        terms.append(rng.choice(READS))
    lines.append(f"def value():\n    return {' + 3 * '.join(terms)}\n")
    lines.append(f"def unrelated():\n    return {rng.randrange(100)}\n")
    return "\n".join(lines)


def a_bundle(rng: random.Random) -> Files:
    """Draws twenty modules, a step, and files that some of them read."""
    files = {f"m{n}.py": module(n, rng) for n in range(MODULES)}
    files["step.py"] = "import m0\ndef f() -> dict[str, int]:\n    return {'n': m0.value()}\n"
    return files | {"data.txt": "7", "plugins/p0.py": "", "notes.md": "notes"}


def another_number(files: Files, rng: random.Random) -> None:
    name = rng.choice([name for name in files if name.startswith("m")])
    files[name] = files[name].replace("K = ", f"K = {rng.randrange(1, 9)}", 1)


def another_unrelated(files: Files, rng: random.Random) -> None:
    name = rng.choice([name for name in files if name.startswith("m")])
    files[name] += f"\ndef u{rng.randrange(1000)}():\n    return {rng.randrange(100)}\n"


def a_comment(files: Files, rng: random.Random) -> None:
    name = rng.choice([name for name in files if name.startswith("m")])
    files[name] = f"# {rng.randrange(1000)}\n{files[name]}"


def anew(files: Files, rng: random.Random) -> None:
    number = rng.randrange(MODULES)
    files[f"m{number}.py"] = module(number, rng)


def data(files: Files, rng: random.Random) -> None:
    files["data.txt"] = str(rng.randrange(100))


def plugin(files: Files, rng: random.Random) -> None:
    name = f"plugins/p{rng.randrange(4)}.py"
    if name in files and name != "plugins/p0.py":
        del files[name]
    else:
        files[name] = f"# {rng.randrange(100)}\n"


def flag(files: Files, rng: random.Random) -> None:
    if "flag" in files:
        del files["flag"]
    else:
        files["flag"] = ""


def package(files: Files, rng: random.Random) -> None:
    name = f"m{rng.randrange(1, MODULES)}"
    if f"{name}/__init__.py" in files:
        del files[f"{name}/__init__.py"]
    else:
        files[f"{name}/__init__.py"] = module(int(name[1:]), rng).replace("__file__", "__path__[0]")


def unrelated_file(files: Files, rng: random.Random) -> None:
    files[f"notes{rng.randrange(3)}.md"] = str(rng.random())


KINDS: list[Callable[[Files, random.Random], None]] = [
    another_number, another_unrelated, a_comment, anew, data, plugin, flag, package, unrelated_file,
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_hit_equals_a_fresh_computation(
    tmp_path: Path, record_property: Callable[[str, object], None], request: pytest.FixtureRequest
) -> None:
    del request
    rng = random.Random(int(os.environ.get("FUZZ_SEED", "1")))
    folder = tmp_path / "rig"
    folder.mkdir()
    rig = CacheRig(folder)
    now = a_bundle(rng)
    rig.write(now)
    history = [dict(now)]
    hits = 0
    try:
        rig.run()
        for number in range(EDITS):
            before = dict(now)
            if rng.random() < 0.15:
                now = dict(rng.choice(history))
            else:
                rng.choice(KINDS)(now, rng)
            rig.write({**{name: None for name in before if name not in now}, **now})
            ran, fresh = rig.run(), rig.run(cache=False)
            assert ran.content == fresh.content, f"edit {number}: {ran.result.key}"
            hits += ran.hit
            history.append(dict(now))
    finally:
        rig.close()
    record_property("outcomes", {"tried": EDITS, "refused": 0})
    assert hits > EDITS // 10
    print(f"{EDITS} edits, {hits} hits")
