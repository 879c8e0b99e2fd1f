"""Parameters read from a step's source: only what holds whatever else the module does."""

from __future__ import annotations

import typing
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from kommuna.runtime.binding import find_step
from kommuna.store.parameters import canonical_params
from kommuna.store.signatures import UNKNOWN, declared_parameters


def declared(bundle: Path, source: str, name: str = "mine") -> Any:
    (bundle / f"{name}.py").write_text(source)
    return declared_parameters(f"{name}:f", bundle=bundle).get("x")


TOLD: list[tuple[str, Any, Any]] = [
    ("def f(*, x: int): ...", int, UNKNOWN),
    ("def f(*, x: int = 1): ...", int, 1),
    ("def f(*, x: 'int | None' = None): ...", int | None, None),
    ("from __future__ import annotations\ndef f(*, x: Share = 1): ...\nShare = float", float, 1),
    ("import datetime as dt\ndef f(*, x: dt.date): ...", date, UNKNOWN),
    ("import collections.abc\ndef f(*, x: collections.abc.Sequence[int] = ()): ...", Sequence[int], ()),
    ("from typing import Literal\ndef f(*, x: Literal[-1, 'a'] = -1): ...", typing.Literal[-1, "a"], -1),
    ("from typing import Literal\nA = -1\ndef f(*, x: Literal[A]): ...", UNKNOWN, UNKNOWN),
    ("A = 3\ndef f(*, x: int = A): ...", int, 3),
    ("A: int = 3\ndef f(*, x: int = A): ...", int, 3),
    ("from typing import TypeAlias\nA: TypeAlias = int\ndef f(*, x: A = 3): ...", int, 3),
    ("A = (1, 2)\ndef f(*, x: tuple[int, ...] = A): ...", tuple[int, ...], (1, 2)),
    ("A = [1]\nA.append(2)\ndef f(*, x: list[int] = A): ...", list[int], UNKNOWN),
    ("def f(*, x: list[int] = [1]): ...", list[int], [1]),
    ("A = 3\nA = 4\ndef f(*, x: int = A): ...", int, UNKNOWN),
    ("A = 3\nA += 1\ndef f(*, x: int = A): ...", int, UNKNOWN),
    ("A = 3\nif A:\n    A = 4\ndef f(*, x: int = A): ...", int, UNKNOWN),
    ("A = 3\nfor A in range(3): pass\ndef f(*, x: int = A): ...", int, UNKNOWN),
    ("A = 3\nB = (A := 5)\ndef f(*, x: int = A): ...", int, UNKNOWN),
    ("A = 3\ndef g(y=(A := 5)): ...\ndef f(*, x: int = A): ...", int, UNKNOWN),
    ("A = 3\ndef g():\n    global A\n    A = 4\ng()\ndef f(*, x: int = A): ...", int, UNKNOWN),
    ("A, B = 3, 4\ndef f(*, x: int = A): ...", int, UNKNOWN),
    ("def f(*, x: int = len('abc')): ...", int, UNKNOWN),
    ("def f(*, x: float = float('nan')): ...", float, UNKNOWN),
    ("int = float\ndef f(*, x: int = 1): ...", float, 1),
    ("class int: ...\ndef f(*, x: int = 1): ...", UNKNOWN, 1),
    ("def g(int): ...\ndef f(*, x: int = 1): ...", int, 1),
    ("class g:\n    int = float\ndef f(*, x: int = 1): ...", int, 1),
    ("try:\n    from numpy import float64 as int\nexcept ImportError: ...\ndef f(*, x: int = 1): ...", UNKNOWN, 1),
    ("if True:\n    Share = float\nelse:\n    Share = int\ndef f(*, x: Share = 1): ...", UNKNOWN, 1),
    ("Share = int\nShare = float\ndef f(*, x: Share = 1): ...", UNKNOWN, 1),
    ("from datetime import date\nclass date: ...\ndef f(*, x: date): ...", UNKNOWN, UNKNOWN),
    ("match 1:\n    case int: ...\ndef f(*, x: int = 1): ...", UNKNOWN, 1),
    ("try: 1/0\nexcept Exception as int: ...\ndef f(*, x: int = 1): ...", UNKNOWN, 1),
    ("with open('a') as int: ...\ndef f(*, x: int = 1): ...", UNKNOWN, 1),
    ("from typing import Annotated\nfrom pydantic import Field as F\ndef f(*, x: Annotated[int, F(ge=0), 'text'] = 1): ...", "Field", 1),
    ("from typing import Annotated\nfrom mylib import Field\ndef f(*, x: Annotated[int, Field(ge=0)] = 1): ...", UNKNOWN, 1),
    ("from typing import Annotated\nfrom pydantic import AfterValidator\ndef f(*, x: Annotated[int, AfterValidator(abs)] = 1): ...", UNKNOWN, 1),
    ("from typing import Annotated\nfrom pydantic import Field\nLOW = 0\ndef f(*, x: Annotated[int, Field(ge=LOW)] = 1): ...", UNKNOWN, 1),
    ("Loop = list['Loop']\ndef f(*, x: Loop = 1): ...", UNKNOWN, 1),
    ("A = 'int'\ndef f(*, x: A = 1): ...", UNKNOWN, 1),
    ("def f(*, x=1): ...", UNKNOWN, 1),
    ("from kommuna.spec.plain import _TYPES as A\ndef f(*, x: A = 1): ...", UNKNOWN, 1),
    ("def f(*, x: dict[str, object] = {'b': 1}): ...", dict[str, object], {"b": 1}),
    ("import sys\nif sys.platform:\n    import datetime\ndef f(*, x: datetime.date): ...", UNKNOWN, UNKNOWN),
    ("from kommuna.spec.step import StepContext\ndef f(*, x: StepContext): ...", "StepContext", UNKNOWN),
    ("def g(*, x: int = 1): ...\nf = g", int, 1),
    ("from kommuna.steps.frames import takes_frames\n@takes_frames\ndef f(*, x: int = 1): ...", int, 1),
]  # fmt: skip


@pytest.mark.parametrize(("source", "kind", "default"), TOLD, ids=range(len(TOLD)))
def test_types_and_defaults_are_determined_only_if_nothing_can_change_them(
    tmp_path: Path, source: str, kind: Any, default: Any
) -> None:
    found = declared(tmp_path, source)
    assert found.default == default or found.default is default
    if isinstance(kind, str):
        assert kind in repr(found.type)
    else:
        assert found.type == kind or found.type is kind


@pytest.mark.parametrize(
    "source",
    [
        "def f(*, x: int = 1): ...\ndef f(*, x: float = 2): ...",
        "def f(*, x: int = 1): ...\nf = print",
        "if True:\n    def f(*, x: int = 1): ...",
        "def g(step): return lambda *, x=2: 0\n@g\ndef f(*, x: int = 1): ...",
        "import functools\ndef g(*, x: int = 1): ...\nf = functools.partial(g, x=2)",
        "def f(*, x: int = 1): ...\nf.__kwdefaults__['x'] = 2",
        "def f(*, x: int = 1): ...\nf.__annotations__['x'] = float",
        "def f(*, x: int = 1): ...\nfrom other import *",
        "def f(*, x: int = 1): ...\nexec('def f(*, x: float = 2): ...')",
        "def f(*, x: int = 1): ...\ndel f",
        "import sys\nA = 3\nsetattr(sys.modules[__name__], 'A', 4)\ndef f(*, x: int = A): ...",
        "A = 3\nvars()['A'] = 4\ndef f(*, x: int = A): ...",
        "from typing import *\ndef f(*, x: int = 1): ...",
        "A = 3\nglobals()['A'] = 4\ndef f(*, x: int = A): ...",
        "class f:\n    def __call__(self, *, x: int = 1): ...",
        "from mine import f",
    ],
)
def test_a_function_that_may_be_another_one_is_unknown(tmp_path: Path, source: str) -> None:
    assert declared(tmp_path, source) is None


def test_types_and_constants_of_other_modules_are_followed(tmp_path: Path) -> None:
    (tmp_path / "team").mkdir()
    (tmp_path / "team/__init__.py").write_text("Share = float\n")
    (tmp_path / "team/shapes.py").write_text("from . import Share as Part\nLOW = 0.5\n")
    (tmp_path / "team/step.py").write_text(
        "from .shapes import Part, LOW\nfrom team import shapes\n"
        "def f(*, x: Part = LOW, y: shapes.Part = shapes.LOW): ...\n"
    )
    found = declared_parameters("team.step:f", bundle=tmp_path)
    assert (found["x"].type, found["x"].default) == (float, 0.5)
    assert (found["y"].type, found["y"].default) == (float, 0.5)


@pytest.mark.parametrize(
    ("files", "wanted"),
    [
        ({"lib.py": "S = int", "lib/__init__.py": "S = float"}, float),  # Python takes the package
        ({"lib.py": "S = int", "lib/other.py": ""}, int),  # and a file before a folder
        ({"lib.py": "S = int", "lib.so": ""}, UNKNOWN),
        ({"lib.pyc": ""}, UNKNOWN),
        ({"statistics.py": "S = int"}, UNKNOWN),
    ],
)
def test_a_module_is_the_one_that_python_would_import(tmp_path: Path, files: dict[str, str], wanted: Any) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    home = "statistics" if "statistics.py" in files else "lib"
    assert declared(tmp_path, f"from {home} import S\ndef f(*, x: S): ...").type is wanted


def test_determined_types_and_defaults_are_those_of_the_step(tmp_path: Path) -> None:
    determined = 0
    for number, (source, _, _) in enumerate(TOLD):
        name = f"told_{number}"
        known = declared(tmp_path, source, name)
        try:
            step = find_step(f"{name}:f", bundle=tmp_path)
        except Exception:
            continue  # no step: nothing is said of it
        defaults = step.function.__kwdefaults__ or getattr(step.function, "__wrapped__", step.function).__kwdefaults__
        if known.type is not UNKNOWN and "x" in step.params:
            determined += 1
            has = step.params["x"].annotation
            assert known.type == has or repr(known.type) == repr(has)  # bounds are equal by what they show alone
        if known.default is not UNKNOWN:
            determined += 1
            assert repr(known.default) == repr((defaults or {})["x"])
    assert determined > 40


def test_parameters_for_an_unreadable_module_are_unchanged(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def f(*, x: int = 1: ...")
    assert canonical_params("mine:f", {"x": "1"}, bundle=tmp_path) == {"x": {"$given": "1"}}
