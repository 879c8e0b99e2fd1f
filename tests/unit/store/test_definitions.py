"""The definitions that a step reaches: every change that may change a result counts, and few others do."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kommuna.store.definitions import Definitions, definitions

from .random_bundles import LIBRARY, outcome, working_bundle

STEPS = "from helpers import clean\ndef run(df):\n    return clean(df)\n"
HELPERS = "LIMIT = 3\ndef clean(df):\n    return df.head(LIMIT)\ndef unrelated(df):\n    return df\n"
SAME, DIFFERENT, UNCLEAR = "same", "different", "unclear"


def definitions_of(folder: Path, files: dict[str, str], *entry_points: str) -> Definitions:
    """Returns the definitions that entry points reach in a bundle of these files."""
    for path, source in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(source)
    return definitions(entry_points or ["steps:run"], folder, libraries={"polars", "sklearn", "duckdb"})


def step(body: str = "    return f(df)\n", before: str = "", after: str = "") -> str:
    return f"{before}\ndef run(df):\n{body}{after}"


# name, what it should be, the bundle before, what changes
CHANGES: list[tuple[str, str, dict[str, str], dict[str, str]]] = []


def change(name: str, expected: str, before: dict[str, str], after: dict[str, str]) -> None:
    CHANGES.append((name, expected, before, after))


def steps_change(name: str, expected: str, before: str, after: str, **others: str) -> None:
    files = {f"{path.replace('__', '/')}.py".replace("/init/", "__init__"): source for path, source in others.items()}
    change(name, expected, {"steps.py": before, **files}, {"steps.py": after})


def helper_change(name: str, expected: str, before: str, after: str, steps: str = STEPS) -> None:
    change(name, expected, {"steps.py": steps, "helpers.py": before}, {"helpers.py": after})


# What does not count.
BASE = {"steps.py": STEPS, "helpers.py": HELPERS}
change("a comment", SAME, BASE, {"helpers.py": "# why\n" + HELPERS})
change("layout", SAME, BASE, {"helpers.py": HELPERS.replace("(LIMIT)", "(\n        LIMIT,\n    )")})
change("the module's docstring", SAME, BASE, {"helpers.py": '"""Helpers."""\n' + HELPERS})
change(
    "a function's docstring", SAME, BASE, {"helpers.py": HELPERS.replace("(df):\n", '(df):\n    """Cleans."""\n', 1)}
)
change("the step's docstring", SAME, BASE, {"steps.py": STEPS.replace("(df):\n", '(df):\n    """Runs."""\n')})
change("an unrelated function", SAME, BASE, {"helpers.py": HELPERS.replace("return df\n", "return df.tail()\n")})
change("a new unrelated function", SAME, BASE, {"helpers.py": HELPERS + "def more(x: int | None = None) -> str: ...\n"})
change("a new unrelated constant", SAME, BASE, {"helpers.py": HELPERS + "DAYS = 7 * 24\nNAMES = {'a': [1, LIMIT]}\n"})
change(
    "a new unrelated class",
    SAME,
    BASE,
    {"helpers.py": HELPERS + "class Point:\n    x: int = 0\n    def f(self): return 1\n"},
)
change("a new unrelated pattern", SAME, BASE, {"helpers.py": "import re\nP = re.compile('a+', re.I)\n" + HELPERS})
change("an unused import of Python's", SAME, BASE, {"helpers.py": "import json\nfrom os import path\n" + HELPERS})
change("an unused import of a loaded library", SAME, BASE, {"helpers.py": "import polars as pl\n" + HELPERS})
change(
    "an unused import of a quiet module", SAME, BASE, {"helpers.py": "import quiet\n" + HELPERS, "quiet.py": "X = 1\n"}
)
change("the order of definitions", SAME, BASE, {"helpers.py": "".join([HELPERS[10:], HELPERS[:10]])})
change("another module of the bundle", SAME, BASE, {"other.py": "print('other')\n"})
change(
    "imports for the type checker",
    SAME,
    BASE,
    {"helpers.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from other import X\n" + HELPERS},
)
change(
    "what runs as a script", SAME, BASE, {"helpers.py": HELPERS + "if __name__ == '__main__':\n    print(clean(1))\n"}
)
change(
    "a re-export on the way",
    SAME,
    {"steps.py": "from api import f\n" + step(), "api.py": "from lib import f\n", "lib.py": "def f(x): return x\n"},
    {"steps.py": "from lib import f\n" + step()},
)
change(
    "a re-export beside",
    SAME,
    {
        "steps.py": "from api import f\n" + step(),
        "api/__init__.py": "from .a import f\n",
        "api/a.py": "def f(x): return x\ndef g(x): return x\n",
    },
    {"api/__init__.py": "from .a import f, g\n"},
)
change("a new package beside", SAME, BASE, {"pkg/__init__.py": "raise SystemExit\n"})
change(
    "a local variable named like a function",
    SAME,
    BASE,
    {"helpers.py": HELPERS.replace("return df\n", "clean = df\n    return clean\n")},
)
steps_change(
    "a local name shadows a helper",
    SAME,
    "def data(): return 1\n" + step("    data = df\n    return data\n"),
    "def data(): return 2\n" + step("    data = df\n    return data\n"),
)
steps_change(
    "a comprehension's name shadows a helper",
    SAME,
    "def row(): return 1\n" + step("    return [row for row in df]\n"),
    "def row(): return 2\n" + step("    return [row for row in df]\n"),
)
steps_change(
    "an unrelated step with other annotations",
    SAME,
    "import polars as pl\n" + step("    return 1\n"),
    "import polars as pl\n"
    + step("    return 1\n", after="def b(x: pl.DataFrame, *, n: int | None = 3) -> list[pl.Expr]: ...\n"),
)
steps_change(
    "a new result type",
    SAME,
    "from typing import NamedTuple\n" + step("    return 1\n"),
    "from typing import NamedTuple\nclass Out(NamedTuple):\n    a: int\n    b: list[str]\n" + step("    return 1\n"),
)
steps_change(
    "a new dataclass",
    SAME,
    "from dataclasses import dataclass, field\n" + step("    return 1\n"),
    "from dataclasses import dataclass, field\n@dataclass(frozen=True)\nclass C:\n    id: int\n    y: list = field(default_factory=list)\n"
    + step("    return 1\n"),
)
steps_change(
    "a new enumeration",
    SAME,
    "import enum\n" + step("    return 1\n"),
    "import enum\nclass Color(enum.Enum):\n    RED = 'red'\n" + step("    return 1\n"),
)
steps_change(
    "a new exception", SAME, step("    return 1\n"), "class Bad(ValueError):\n    '''Bad.'''\n" + step("    return 1\n")
)
steps_change(
    "a new cached function",
    SAME,
    "import functools\n" + step("    return 1\n"),
    "import functools\n@functools.lru_cache(maxsize=None)\ndef g(): return 1\n" + step("    return 1\n"),
)
steps_change(
    "import a.b becomes two imports",
    SAME,
    "import pkg.a\n" + step("    return pkg.a.f(df)\n"),
    "import pkg.a\nimport pkg.b\n" + step("    return pkg.a.f(df)\n"),
    pkg____init__="",
    pkg__a="def f(x): return x\n",
    pkg__b="",
)

# What counts because the step reaches it.
change("a reached function", DIFFERENT, BASE, {"helpers.py": HELPERS.replace("head", "tail")})
change("a reached constant", DIFFERENT, BASE, {"helpers.py": HELPERS.replace("3", "4")})
change("an integer becomes a float", DIFFERENT, BASE, {"helpers.py": HELPERS.replace("3", "3.0")})
change(
    "True for 1",
    DIFFERENT,
    {**BASE, "helpers.py": HELPERS.replace("3", "1")},
    {"helpers.py": HELPERS.replace("3", "True")},
)
change("the step itself", DIFFERENT, BASE, {"steps.py": STEPS.replace("clean(df)\n", "clean(df) + 1\n")})
change(
    "a parameter's default",
    DIFFERENT,
    {"steps.py": "def run(df, *, n=1): return n\n"},
    {"steps.py": "def run(df, *, n=2): return n\n"},
)
change(
    "an annotation of the step",
    DIFFERENT,
    {"steps.py": "def run(df: int): return 1\n"},
    {"steps.py": "def run(df: str): return 1\n"},
)
change(
    "a local name",
    DIFFERENT,
    {"steps.py": "def run(df):\n    t = df\n    return t\n"},
    {"steps.py": "def run(df):\n    u = df\n    return u\n"},
)
change(
    "another source of the same name",
    DIFFERENT,
    {
        "steps.py": "from a import f\nimport b\n" + step("    return f(df) + b.f(df)\n"),
        "a.py": "def f(x): return 1\n",
        "b.py": "def f(x): return 2\n",
    },
    {"steps.py": "from b import f\nimport a\nimport b\n" + step("    return f(df) + b.f(df)\n")},
)
change(
    "a definition moves to another module",
    DIFFERENT,
    {"steps.py": "from a import C\n" + step("    return C()\n"), "a.py": "class C: pass\n", "b.py": ""},
    {"steps.py": "from b import C\n" + step("    return C()\n"), "b.py": "class C: pass\n", "a.py": ""},
)
for label, steps in {
    "import": "import helpers\n" + step("    return helpers.clean(df)\n"),
    "import as": "import helpers as h\n" + step("    return h.clean(df)\n"),
    "from import as": "from helpers import clean as c\n" + step("    return c(df)\n"),
    "star": "from helpers import *\n" + step("    return clean(df)\n"),
    "nested": step("    from helpers import clean\n    return clean(df)\n"),
    "nested module": step("    import helpers\n    return helpers.clean(df)\n"),
    "nested in a closure": step(
        "    def g():\n        import helpers as h\n        return h.clean(df)\n    return g()\n"
    ),
    "conditional": "try:\n    from helpers import clean\nexcept ImportError:\n    clean = None\n"
    + step("    return clean(df)\n"),
    "lambda": "import helpers\nF = lambda df: helpers.clean(df)\n" + step("    return F(df)\n"),
    "default": "import helpers\ndef run(df, f=helpers.clean): return f(df)\n",
    "table of functions": "from helpers import clean\nT = {'a': clean}\n" + step("    return T['a'](df)\n"),
    "decorator": "from helpers import clean\n@clean\ndef run(df): return df\n",
    "called at import": "from helpers import clean\nX = clean(range(3))\n" + step("    return 1\n"),
    "alias": "from helpers import clean\nc = clean\n" + step("    return c(df)\n"),
    "method": "from helpers import clean\nclass C:\n    def m(self, x): return clean(x)\n"
    + step("    return C().m(df)\n"),
    "global statement": step("    global clean\n    from helpers import clean\n    return clean(df)\n"),
    "string annotation": "import helpers\ndef run(df: 'helpers.clean'): return 1\n",
    "reference in a string": step("    return call('helpers:clean', df)\n"),
    "walrus": "from helpers import clean\n" + step("    return (g := clean)(df)\n"),
    "match": "from helpers import clean\n" + step("    match df:\n        case clean(): return 1\n"),
}.items():
    helper_change(f"a helper reached by: {label}", DIFFERENT, HELPERS, HELPERS.replace("head", "tail"), steps)
    helper_change(
        f"beside a helper reached by: {label}", SAME, HELPERS, HELPERS.replace("return df\n", "return 1\n"), steps
    )
PACKAGE = {
    "pkg/__init__.py": "",
    "pkg/a.py": "from .b import g\ndef f(x): return g(x)\n",
    "pkg/b.py": "def g(x): return 1\n",
}
for label, steps in {
    "import a.b": "import pkg.a\n" + step("    return pkg.a.f(df)\n"),
    "import a.b as c": "import pkg.a as c\n" + step("    return c.f(df)\n"),
    "from a import b": "from pkg import a\n" + step("    return a.f(df)\n"),
    "from a.b import c": "from pkg.a import f\n" + step(),
    "a submodule that another import loads": "import pkg\nfrom pkg.a import f as _\n"
    + step("    return pkg.a.f(df)\n"),
}.items():
    change(
        f"a package reached by: {label}",
        DIFFERENT,
        {"steps.py": steps, **PACKAGE},
        {"pkg/b.py": "def g(x): return 2\n"},
    )
change(
    "a namespace package",
    DIFFERENT,
    {"steps.py": "from space.a import f\n" + step(), "space/a.py": "def f(x): return 1\n"},
    {"space/a.py": "def f(x): return 2\n"},
)
change(
    "relative imports in a package",
    DIFFERENT,
    {
        "steps.py": "from p.q.a import f\n" + step(),
        "p/__init__.py": "",
        "p/q/__init__.py": "",
        "p/q/a.py": "from ..b import f\n",
        "p/b.py": "def f(x): return 1\n",
    },
    {"p/b.py": "def f(x): return 2\n"},
)
change(
    "a package wins over a module",
    DIFFERENT,
    {"steps.py": "from lib import f\n" + step(), "lib.py": "def f(x): return 1\n"},
    {"lib/__init__.py": "def f(x): return 2\n"},
)
change(
    "a module beside its package",
    SAME,
    {
        "steps.py": "from lib import f\n" + step(),
        "lib.py": "def f(x): return 1\n",
        "lib/__init__.py": "def f(x): return 2\n",
    },
    {"lib.py": "def f(x): return 3\n"},
)
change(
    "a folder does not win over a module",
    SAME,
    {"steps.py": "from lib import f\n" + step(), "lib.py": "def f(x): return 1\n"},
    {"lib/a.py": "def f(x): return 2\n"},
)
change(
    "a bundle module named like Python's counts wholly",
    DIFFERENT,
    {
        "steps.py": "from statistics import mean\n" + step("    return mean(df)\n"),
        "statistics.py": "def mean(x): return 1\ndef other(): return 1\n",
    },
    {"statistics.py": "def mean(x): return 1\ndef other(): return 2\n"},
)
change(
    "a new bundle module named like Python's",
    DIFFERENT,
    {"steps.py": "from statistics import mean\n" + step("    return mean(df)\n")},
    {"statistics.py": "def mean(x): return 1\n"},
)
change(
    "an attribute shadows a submodule",
    DIFFERENT,
    {
        "steps.py": "from pkg import a\n" + step("    return a(df)\n"),
        "pkg/__init__.py": "def a(x): return 1\n",
        "pkg/a.py": "",
    },
    {"pkg/__init__.py": "def a(x): return 2\n"},
)
change(
    "a function replaces its submodule",
    DIFFERENT,
    {
        "steps.py": "from pkg import a\n" + step("    return a(df)\n"),
        "pkg/__init__.py": "from .a import a\n",
        "pkg/a.py": "def a(x): return 1\n",
    },
    {"pkg/a.py": "def a(x): return 2\n"},
)
change(
    "__all__ hides a name",
    DIFFERENT,
    {
        "steps.py": "from a import *\nfrom b import *\n" + step(),
        "a.py": "def f(x): return 1\n",
        "b.py": "def f(x): return 2\n",
    },
    {"b.py": "__all__ = []\ndef f(x): return 2\n"},
)
change(
    "a star brings a builtin's name",
    DIFFERENT,
    {"steps.py": "from a import *\n" + step("    return len(df)\n"), "a.py": "X = 1\n"},
    {"a.py": "X = 1\ndef len(x): return 2\n"},
)
change(
    "a module defines a builtin's name",
    DIFFERENT,
    {"steps.py": step("    return len(df)\n")},
    {"steps.py": "def len(x): return 1\n" + step("    return len(df)\n")},
)
change(
    "two stars in another order",
    DIFFERENT,
    {
        "steps.py": "from a import *\nfrom b import *\n" + step(),
        "a.py": "def f(x): return 1\n",
        "b.py": "def f(x): return 2\n",
    },
    {"steps.py": "from b import *\nfrom a import *\n" + step()},
)
steps_change(
    "a private name in a class",
    DIFFERENT,
    "_C__x = 1\nclass C:\n    def m(self): return __x\n" + step("    return C().m()\n"),
    "_C__x = 2\nclass C:\n    def m(self): return __x\n" + step("    return C().m()\n"),
)
steps_change(
    "a name in a query's string",
    DIFFERENT,
    "LIMIT = 1\n" + step("    return df.query('x > @LIMIT')\n"),
    "LIMIT = 2\n" + step("    return df.query('x > @LIMIT')\n"),
)
steps_change(
    "a name in SQL from elsewhere",
    DIFFERENT,
    "import duckdb\nT = 1\n" + step("    return duckdb.sql(df)\n"),
    "import duckdb\nT = 2\n" + step("    return duckdb.sql(df)\n"),
)
steps_change(
    "postponed annotations",
    DIFFERENT,
    "def run(df: int): return 1\n",
    "from __future__ import annotations\ndef run(df: int): return 1\n",
)
steps_change(
    "the docstring of a function that is handed on",
    DIFFERENT,
    "def tool(): 'Does.'\n" + step("    return agent(tool)\n"),
    "def tool(): 'Does it.'\n" + step("    return agent(tool)\n"),
)
steps_change(
    "the docstring of a class of a library's kind",
    DIFFERENT,
    "from made import Model\nclass M(Model): 'Says.'\n" + step("    return M()\n"),
    "from made import Model\nclass M(Model): 'Says it.'\n" + step("    return M()\n"),
)

# What counts because it runs at import.
for label, acting in {
    "a call": "print({n})\n",
    "a call's result": "X = print({n})\n",
    "an attribute": "import polars\npolars.x = {n}\n",
    "an item": "import os\nos.environ['x'] = '{n}'\n",
    "a loop": "for i in [{n}]: pass\n",
    "a condition": "if 1 > {n}: X = 1\n",
    "a try": "try: {n} / 0\nexcept Exception: pass\n",
    "a with": "with open('{n}'): pass\n",
    "an augmented assignment": "X = 1\nX += {n}\n",
    "a decorator": "from made import register\n@register\ndef f(): return {n}\n",
    "a base class": "from made import Base\nclass C(Base):\n    n = {n}\n",
    "a base class with a say": "class B:\n    def __init_subclass__(cls): print(cls)\nclass C(B):\n    n = {n}\n",
    "a metaclass": "class C(metaclass=print):\n    n = {n}\n",
    "a default": "def f(x=print({n})): ...\n",
    "an annotation": "def f(x: print({n})): ...\n",
    "an assertion": "assert {n}\n",
    "a deletion": "X = {n}\ndel X\n",
    "a name bound twice": "X = {n}\nX = 3\n",
    "a division that may fail": "X = 1 / ({n} - 2)\n",
    "an unhashable key": "X = {{{n}: 1, ('a', []): 2}}\n",
    "a pattern that may not compile": "import re\nX = re.compile(')' * {n})\n",
    "a dataclass that may fail": "import dataclasses\n@dataclasses.dataclass\nclass C:\n    a: int = {n}\n    b: int\n",
    "a helper called at import": "def g(): return {n}\nX = g()\n",
    "an import of an unknown library": "import unknown{n}\n",
    "an import that patches a library": "from sklearn.experimental import enable_{n}\n",
    "a patched helper": "import helpers\nhelpers.clean = lambda df: {n}\n",
}.items():
    for place in ("steps", "helpers", "imported"):
        files = {**BASE, "steps.py": "import imported\n" + STEPS, "imported.py": ""}
        old, new = ({f"{place}.py": files[f"{place}.py"] + acting.format(n=n)} for n in (1, 2))
        if not (place == "helpers" and "patched" in label):
            change(f"{label} at import of {place}", DIFFERENT, {**files, **old}, new)
change(
    "the order of what runs",
    DIFFERENT,
    {"steps.py": "import a\nimport b\n" + step("    return 1\n"), "a.py": "print(1)\n", "b.py": "print(2)\n"},
    {"steps.py": "import b\nimport a\n" + step("    return 1\n")},
)
change(
    "a patch before or after a name is taken",
    DIFFERENT,
    {
        "steps.py": "from a import f\nimport patch\n" + step(),
        "a.py": "def f(x): return 1\n",
        "patch.py": "import a\na.f = print\n",
    },
    {"steps.py": "import patch\nfrom a import f\n" + step()},
)
change(
    "a definition moves past what uses it",
    DIFFERENT,
    {"steps.py": "try: X = f(1)\nexcept NameError: X = 0\ndef f(x): return 1\ndef run(df): return X\n"},
    {"steps.py": "def f(x): return 1\ntry: X = f(1)\nexcept NameError: X = 0\ndef run(df): return X\n"},
)
change(
    "an import cycle sees another part",
    DIFFERENT,
    {
        "steps.py": "import a\ndef run(df): return a.g(df)\n",
        "a.py": "def f(x): return 1\nimport b\ndef g(x): return b.h(x)\n",
        "b.py": "try:\n    from a import f\nexcept ImportError:\n    f = print\ndef h(x): return f(x)\n",
    },
    {"a.py": "import b\ndef f(x): return 1\ndef g(x): return b.h(x)\n"},
)
change(
    "an unused import of a noisy module",
    DIFFERENT,
    {**BASE, "noisy.py": "print(1)\n"},
    {"helpers.py": "import noisy\n" + HELPERS},
)
change(
    "a nested import's module runs",
    DIFFERENT,
    {"steps.py": step("    import late\n    return 1\n"), "late.py": "print(1)\n"},
    {"late.py": "print(2)\n"},
)
change(
    "a nested import in what nothing reaches",
    SAME,
    {"steps.py": step("    return 1\n", after="def g():\n    import late\n"), "late.py": "print(1)\n"},
    {"late.py": "print(2)\n"},
)

change(
    "both sources of a name are reached",
    DIFFERENT,
    {
        "steps.py": "from a import f\nimport a\nimport b\n" + step("    return f(df) + 2 * a.f(df) + 3 * b.f(df)\n"),
        "a.py": "def f(x): return 1\n",
        "b.py": "def f(x): return 2\n",
    },
    {"steps.py": "from b import f\nimport a\nimport b\n" + step("    return f(df) + 2 * a.f(df) + 3 * b.f(df)\n")},
)
change(
    "a constant that is taken before it is set",
    DIFFERENT,
    {
        "steps.py": "try:\n    import m\n    R = 1\nexcept NameError:\n    R = 2\ndef run(df): return R\n",
        "m.py": "X = 1\nY = X\n",
    },
    {"m.py": "Y = X\nX = 1\n"},
)
change(
    "whether an import within a cycle finds a name that nothing uses",
    DIFFERENT,
    {
        "steps.py": "import a\ndef run(df): return a.R\n",
        "a.py": "X = 1\nimport b\nR = b.R\n",
        "b.py": "try:\n    from a import X\n    R = 1\nexcept ImportError:\n    R = 2\n",
    },
    {"a.py": "import b\nX = 1\nR = b.R\n"},
)
MAYBE = "try:\n    raise ImportError\n    import patch\nexcept ImportError: pass\n"
change(
    "an import after one that may not have happened",
    DIFFERENT,
    {
        "steps.py": MAYBE + "from helpers import clean\nimport patch\n" + step("    return clean(df)\n"),
        "helpers.py": HELPERS,
        "patch.py": "import helpers\nhelpers.clean = print\n",
    },
    {"steps.py": MAYBE + "import patch\nfrom helpers import clean\n" + step("    return clean(df)\n")},
)
TAKEN = "try: X = pkg.a.f(1)\nexcept AttributeError: X = 0\n"
change(
    "a submodule is loaded before or after it is used",
    DIFFERENT,
    {"steps.py": f"import pkg\n{TAKEN}import pkg.a\ndef run(df): return X\n", **PACKAGE},
    {"steps.py": f"import pkg\nimport pkg.a\n{TAKEN}def run(df): return X\n"},
)
change(
    "a submodule that another module no longer loads",
    DIFFERENT,
    {
        "steps.py": "import pkg\nimport other\n" + step("    return pkg.a.f(df)\n"),
        "other.py": "import pkg.a\n",
        **PACKAGE,
    },
    {"other.py": ""},
)
LOUD = "import a\nclass Loud:\n    def __init_subclass__(cls): print(cls.n)\na.Base = Loud\n"
change(
    "a class whose base was patched",
    DIFFERENT,
    {
        "steps.py": "import patch\nfrom a import Base\nclass C(Base):\n    n = 1\n" + step("    return 1\n"),
        "a.py": "class Base: pass\n",
        "patch.py": LOUD,
    },
    {"steps.py": "import patch\nfrom a import Base\nclass C(Base):\n    n = 2\n" + step("    return 1\n")},
)

# Uncertain cases.
for label, line in {
    "globals": "    return globals()\n",
    "locals": "    return locals()\n",
    "vars": "    return vars()\n",
    "eval": "    return eval(df)\n",
    "exec": "    exec(df)\n",
    "compile": "    return compile(df, '', 'exec')\n",
    "__import__": "    return __import__(df)\n",
    "importlib": "    import importlib\n    return importlib.import_module(df)\n",
    "import_module": "    from importlib import import_module as i\n    return i(df)\n",
    "sys.modules": "    import sys\n    return sys.modules[df]\n",
    "sys.path": "    import sys\n    sys.path.insert(0, df)\n",
    "sys handed on": "    import sys\n    return getattr(sys, df)\n",
    "inspect": "    import inspect\n    return inspect.getsource(run)\n",
    "pickle": "    import pickle\n    return pickle.loads(df)\n",
    "__doc__": "    return run.__doc__\n",
    "__doc__ of the module": "    return __doc__\n",
    "__file__": "    return open(__file__).read()\n",
    "__dict__": "    return run.__dict__\n",
    "__code__": "    return run.__code__\n",
    "__subclasses__": "    return object.__subclasses__()\n",
    "a module handed on": "    import helpers\n    return getattr(helpers, df)\n",
    "a module in a list": "    import helpers\n    return [helpers]\n",
    "a missing module": "    import helpers.nothing\n",
    "a name of a dunder": "    return getattr(run, '__doc__')\n",
    "traceback": "    import traceback\n    return traceback.format_exc()\n",
}.items():
    steps_change(f"{label} is used", UNCLEAR, step(line), step(line + "    #\n"), helpers=HELPERS)
steps_change(
    "eval in what nothing reaches",
    SAME,
    step("    return 1\n"),
    step("    return 1\n", after="def g(x): return eval(x)\n"),
)
steps_change(
    "inspect imported and not used", SAME, step("    return 1\n"), "import inspect, pickle\n" + step("    return 1\n")
)
steps_change(
    "the folder of the file",
    SAME,
    "from pathlib import Path\n" + step("    return Path(__file__).parent / 'a.csv'\n"),
    "# why\nfrom pathlib import Path\n" + step("    return Path(__file__).parent / 'a.csv'\n"),
)
change("a module's __getattr__", UNCLEAR, BASE, {"helpers.py": HELPERS + "def __getattr__(name): return 1\n"})
change("a syntax error", UNCLEAR, BASE, {"helpers.py": HELPERS + "def (\n"})
change("a compiled module alone", UNCLEAR, {"steps.py": STEPS, "helpers.pyc": ""}, {})
change("an extension module", UNCLEAR, {"steps.py": STEPS, "helpers.cpython-311-x86_64-linux-gnu.so": ""}, {})
change("no such step", UNCLEAR, {"steps.py": "X = 1\n"}, {})


@pytest.mark.parametrize(("expected", "before", "after"), [c[1:] for c in CHANGES], ids=[c[0] for c in CHANGES])
def test_a_change_counts_if_it_may_change_the_result(
    tmp_path: Path, expected: str, before: dict[str, str], after: dict[str, str]
) -> None:
    old = definitions_of(tmp_path / "old", before)
    new = definitions_of(tmp_path / "new", before | after)
    if expected == UNCLEAR:
        assert new.unclear
        return
    assert (old.unclear, new.unclear) == ("", "")
    assert (old.digest == new.digest) == (expected == SAME)


def test_the_table_has_enough_cases_of_each_kind() -> None:
    assert len({name for name, *_ in CHANGES}) == len(CHANGES) >= 150
    assert all(sum(kind == c[1] for c in CHANGES) >= 20 for kind in (SAME, DIFFERENT, UNCLEAR))


def test_all_modules_that_may_be_loaded_are_named(tmp_path: Path) -> None:
    files = {
        "steps.py": "import a\nfrom p import q\ndef run(df):\n    import late\n    return 1\ndef other():\n    import never\n",
        "a.py": "try:\n    import b\nexcept ImportError:\n    import c\n",
        **dict.fromkeys(["b.py", "c.py", "late.py", "never.py", "p/__init__.py", "p/q.py", "p/r.py"], ""),
    }
    assert definitions_of(tmp_path, files).modules == {"steps", "a", "b", "c", "p", "p.q", "late"}


def test_the_reason_names_file_and_line(tmp_path: Path) -> None:
    files = {"steps.py": STEPS, "helpers.py": "\n\ndef clean(df):\n    return globals()\n"}
    assert definitions_of(tmp_path, files).unclear == "helpers.py:4 uses globals"


def test_a_python_rule_counts_in_addition_to_the_step(tmp_path: Path) -> None:
    files = {"steps.py": step("    return 1\n"), "rules.py": "def late(x): return 1\ndef early(x): return 2\n"}
    before = definitions_of(tmp_path, files, "steps:run", "rules:late")
    assert before.modules == {"steps", "rules"}
    (tmp_path / "rules.py").write_text("def late(x): return 1\ndef early(x): return 3\n")
    assert definitions_of(tmp_path, {}, "steps:run", "rules:late") == before
    (tmp_path / "rules.py").write_text("def late(x): return 4\ndef early(x): return 3\n")
    assert definitions_of(tmp_path, {}, "steps:run", "rules:late").digest != before.digest
    assert definitions_of(tmp_path, {}, "steps:run", "rules:*").digest != before.digest


def test_a_shared_step_does_not_depend_on_the_bundle(tmp_path: Path) -> None:
    result = definitions_of(tmp_path, {"steps.py": "def ("}, "kommuna.steps.labeling:label")
    assert (result.modules, result.unclear) == (frozenset(), "")


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**9))
def test_equal_digests_mean_equal_results(seed: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    rng = random.Random(seed)
    folder = tmp_path_factory.mktemp("bundles")
    bundle = working_bundle(rng, folder / "attempts")
    result, loaded = outcome(bundle.write(folder / "before"))
    before = definitions(["steps:run"], folder / "before", libraries={LIBRARY})
    assert before.unclear or loaded <= before.modules
    for number in range(5):
        edited = bundle.edited(rng).write(folder / str(number))
        after = definitions(["steps:run"], edited, libraries={LIBRARY})
        if not before.unclear and not after.unclear and before.digest == after.digest:
            assert outcome(edited)[0] == result


VALUES = (
    "import enum, datetime, polars as pl\nfrom datetime import date\nfrom enum import Enum, auto\n"
    "from pydantic import BaseModel, Field\nK = 3\nNAMES = ['a']\nA = {'a': 1}\nclass Plain: pass\n"
)


@pytest.mark.parametrize(
    "addition",
    [
        "class E(Enum):\n    A = 'a'\n    B = auto()",
        "class E(enum.Flag):\n    A = 3",
        "class E(Enum):\n    A = auto(1)",
        "class M(BaseModel):\n    a: Plain",
        "class M(BaseModel):\n    date: date | None = None",
        "class M(BaseModel):\n    a: str = Field('', ge=0)",
        "class M(BaseModel):\n    a: int = Field(1, default=2)",
        "class M(BaseModel):\n    model_a: int = 1",
        "class M(BaseModel):\n    copy: int = 1",
        "class M(BaseModel):\n    a: 'Later'",
        "class N(BaseModel):\n    a: int = 1\nclass M(N):\n    def a(self): return 1",
        "class M(BaseModel, extra='nothing'):\n    a: int",
        "class C:\n    K = [1]\n    B = K + 1",
        "class C:\n    __slots__ = 'a'\n    a = 1",
        "Z = date(2026, 13, 1)",
        "Z = K + 'a'",
        "Z = K / 0",
        "Z = 2 ** 2 ** 2 ** 2 ** 2",
        "Z = 'a' * 9999 * 9999",
        "Z = NAMES + K",
        "Z = NAMES | A",
        "Z = [*K]",
        "Z = {**NAMES}",
        "Z = {NAMES: 1}",
        "Z = K[0]",
        "Z = A['b']",
        "Z = len(K)",
        "Z = f'{K:x>{K}}'",
        "Z = int('a')",
        "Z = 1 < pl.col('a') < 3",
        "Z = pl.col('a') > NAMES",
        "Z = pl.col('a').nothing",
        "Z = Plain | 3",
    ],
)
def test_an_addition_that_may_fail_or_do_more_counts(tmp_path: Path, addition: str) -> None:
    steps = {"steps.py": "import helpers\n" + step("    return helpers.clean(df)\n")}
    before = definitions_of(tmp_path, steps | {"helpers.py": HELPERS + VALUES})
    after = definitions_of(tmp_path, {"helpers.py": HELPERS + VALUES + addition + "\n"})
    assert before.digest != after.digest


@pytest.mark.parametrize("other", ["import helpers\nhelpers.K = 'x'\n", "from helpers import *\n"])
def test_a_name_that_another_module_may_replace_is_not_a_constant(tmp_path: Path, other: str) -> None:
    steps = {"steps.py": "import other, helpers\n" + step("    return helpers.clean(df)\n"), "other.py": other}
    first = "import other\n" if "K" in other else ""
    before = definitions_of(tmp_path, steps | {"helpers.py": first + HELPERS + VALUES})
    after = definitions_of(tmp_path, {"helpers.py": first + HELPERS + VALUES + "Z = K - 1\n"})
    assert (before.digest == after.digest) == ("*" in other)
