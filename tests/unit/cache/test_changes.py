"""A table of changes between two runs of a step: for which the second run reuses the first result.

Whatever the table says, a hit must be what a fresh computation leaves: that is checked for each line.
"""

from __future__ import annotations

import contextlib
import io
import sqlite3
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import polars as pl
import pytest
from tests.rigs.cache import CacheRig

HIT, MISS = True, False
Files = Mapping[str, str | bytes | None]


@dataclass(frozen=True)
class Change:
    """The files before, the change, and whether the second run reuses the first result."""

    name: str
    files: Files
    after: Files = field(default_factory=dict)
    hit: bool = MISS
    spec: Mapping[str, Any] = field(default_factory=dict)
    spec_after: Mapping[str, Any] = field(default_factory=dict)
    needless: str = ""  # why a fresh computation is made though it leaves the same


def f(body: str, head: str = "", arguments: str = "") -> str:
    """The source of a step `f`."""
    lines = "\n".join(f"    {line}" for line in body.splitlines())
    return f"{head}\ndef f({arguments}) -> dict[str, object]:\n{lines}\n"


def database(number: int) -> bytes:
    """A SQLite file with one number in it."""
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("create table t (n int)")
        connection.execute("insert into t values (?)", (number,))
        connection.commit()
        return connection.serialize()


def parquet(compression: str) -> bytes:
    """A Parquet file of three rows."""
    file = io.BytesIO()
    pl.DataFrame({"a": [1, 2, 3]}).write_parquet(file, compression=compression)  # type: ignore[arg-type]
    return file.getvalue()


USES_LIB = {"step.py": f("return {'n': lib.n()}", "import lib"), "lib.py": "def n():\n    return 1\n"}
LIB_2 = "def n():\n    return 22\n"  # longer: a started Python looks at the size and the second of what it compiled
READS = f("return {'n': Path(__file__).with_name('data.json').read_text()}", "from pathlib import Path")
TABLE = "table: dict[str, object]"
IN_JSON = {"inputs": {"table": {"url": "in.json"}}}
MODEL = "import dataclasses\nfrom pydantic import TypeAdapter\n@dataclasses.dataclass\nclass E:\n    {0}\n    x: int\n    @classmethod\n    def of(cls): return TypeAdapter(cls).json_schema()\n    def n(self):\n        '{1}'\n        return 1\n@dataclasses.dataclass\nclass M:\n    e: 'E'\n"
NUMBERED = "from enum import Enum, auto\nfrom pydantic import BaseModel\nclass E(Enum):\n    {0}A = auto()\nclass C(BaseModel):\n    e: E = E.A\n"
POLARS = "import polars as pl\ndef n():\n    return pl.DataFrame({'a': [1]}).height\n"
STEPS = "from kommuna.spec.caching import step\ndef n():\n    return 1\n"
NAMED = {"lib.py": "def a():\n    return 1\ndef used():\n    pass\n"}
NAMED_2 = {"lib.py": "def a():\n    return 2\ndef used():\n    pass\n"}
OWN_CLASS = "import sys, types\nclass M(types.ModuleType):\n    k = {0}\nsys.modules[__name__].__class__ = M\n"

CODE = [
    Change("nothing", USES_LIB, {}, HIT),
    Change("a helper", USES_LIB, {"lib.py": LIB_2}),
    Change("the step itself", {"step.py": f("return {'n': 1}")}, {"step.py": f("return {'n': 2}")}),
    Change("a comment", USES_LIB, {"lib.py": "# why\ndef n():\n    return 1  # because\n"}, HIT),
    Change("a comment in a module that resolves its own path", {"step.py": f("return {'n': len(Path(__file__).resolve().parent.name) > 0}", "from pathlib import Path")},
           {"step.py": f("return {'n': len(Path(__file__).resolve().parent.name) > 0}  # why", "from pathlib import Path")}, HIT),
    Change("layout", USES_LIB, {"lib.py": "\n\ndef n( ) :\n        return (1)\n"}, HIT),
    Change("a docstring", USES_LIB, {"lib.py": 'def n():\n    """One."""\n    return 1\n'}, HIT),
    Change("a module's docstring", USES_LIB, {"lib.py": '"""All of it."""\ndef n():\n    return 1\n'}, HIT),
    Change("a docstring that is read", {"step.py": f("return {'n': f.__doc__}")},
           {"step.py": f("'''Two.'''\nreturn {'n': f.__doc__}")}),
    *(Change(f"a docstring that a model's schema has, of {what}", {"step.py": f(f"return {{'n': str({call})}}", MODEL.format("'One.'", ""))}, {"step.py": f(f"return {{'n': str({call})}}", MODEL.format("'Two.'", ""))})
      for what, call in (("a quoted type", "TypeAdapter(M).json_schema()"), ("cls", "E.of()"), ("type()", "TypeAdapter(type(E(x=1))).json_schema()"), ("__class__", "TypeAdapter(E(x=1).__class__).json_schema()"))),
    Change("a docstring of a plain class", {"step.py": f("return {'n': C().n()}", "class C:\n    'One.'\n    def n(self): return 1")}, {"step.py": f("return {'n': C().n()}", "class C:\n    'Two.'\n    def n(self): return 1")}, HIT),
    Change("a docstring of a model's method", {"step.py": f("return {'n': E(x=1).n()}", MODEL.format("'One.'", "One."))}, {"step.py": f("return {'n': E(x=1).n()}", MODEL.format("'One.'", "Two."))}, HIT),
    *(Change(f"an unused addition: {line.splitlines()[-1]}", USES_LIB, {"lib.py": f"{line}\n{USES_LIB['lib.py']}"}, HIT) for line in (
        "import logging\nlog = logging.getLogger(__name__)", "from logging import getLogger\nlog = getLogger('lib')", "from typing import TypeVar\nT = TypeVar('T')",
        "from pathlib import Path\nHERE = Path(__file__).resolve().parent",
        "from collections.abc import Mapping", "from urllib.parse import urlsplit", "import structlog\nlog = structlog.get_logger()",
        "from typing import Literal\nKind = Literal['a', 'b']", "Ids = list[int] | None", "from typing import NewType\nUid = NewType('Uid', int)",
        "DAY = 24\nWEEK = DAY * 7", "NAMES = ['a']\nMORE = [*NAMES, 'b'] + NAMES", "A = {'a': 1}\nB = {**A, 'b': 2} | A", "K = 3\nTITLE = f'{K} days'", "D = dict(a=1)",
        "from datetime import date, timedelta\nSTART, SPAN = date(2026, 1, 1), timedelta(days=7)", "from decimal import Decimal\nRATE = Decimal('0.1')", "WORDS = 'a b'.split()",
        "from pathlib import Path\nHERE = Path(__file__).parent\nSQL = HERE / 'sql'", "import math\nMOST = math.inf", "from collections import defaultdict, namedtuple\nP, G = namedtuple('P', 'x y'), defaultdict(list)",
        "from enum import Enum, auto\nclass E(Enum):\n    A = auto()\n    B = auto()", "from enum import IntEnum\nclass E(IntEnum):\n    A = 1", "from enum import Enum\nclass E(str, Enum):\n    A = 'a'",
        "from dataclasses import dataclass\n@dataclass(frozen=True, slots=True)\nclass C:\n    a: int = 1", "from typing import TypedDict\nclass O(TypedDict, total=False):\n    a: int", "class C:\n    _a = 1",
        "from pydantic import BaseModel\nclass M(BaseModel):\n    a: int\n    b: list[str] = []\n    def c(self): return self.a",
        "from datetime import date\nfrom pydantic import BaseModel, ConfigDict, Field\nclass M(BaseModel):\n    model_config = ConfigDict(extra='forbid')\n    a: int = Field(3, ge=0)\n    on: date | None = None\nclass N(M):\n    m: list[M] = Field(default_factory=list)",
    )),
    Change("an unused schema and expression of a library that is loaded", USES_LIB | {"lib.py": POLARS}, {"lib.py": POLARS + "SCHEMA = {'a': pl.Int64}\nAMOUNT = pl.col('a')\nLARGE = (AMOUNT > 3) & ~pl.col('b')\n"}, HIT),
    *(Change(f"an addition that acts: {line.splitlines()[-1].strip()}", USES_LIB, {"lib.py": f"{line}\n{USES_LIB['lib.py']}"}, needless="importing it runs it, and source does not tell that this does nothing") for line in (
        "from pydantic import BaseModel, field_validator\nclass M(BaseModel):\n    a: int\n    @field_validator('a')\n    def b(cls, a): return a", "L = [x for x in 'ab']", "import polars as pl\nA = pl.col('a').str.strip_chars()",
    )),
    Change("a constant that a sum two modules away has", USES_LIB | {"lib.py": "from k import WEEK\ndef n():\n    return WEEK\n", "k.py": "from j import DAY\nWEEK = DAY * 7\n", "j.py": "DAY = 24\n"}, {"j.py": "DAY = 25\n"}),
    Change("the order of an act and of what reads a list", USES_LIB | {"lib.py": "NAMES = ['a']\nMORE = [*NAMES]\nNAMES.append('b')\ndef n():\n    return MORE\n"}, {"lib.py": "NAMES = ['a']\nNAMES.append('b')\nMORE = [*NAMES]\ndef n():\n    return MORE\n"}),
    Change("the order of modules that patch and that read", {"step.py": f("return {'n': lib.X}", "import patch, lib"), "patch.py": "import math\nmath.pi = 3\n", "lib.py": "import math\nX = math.pi * 2\n"}, {"step.py": f("return {'n': lib.X}", "import lib, patch")}),
    Change("a member of an enumeration that is a model's default", {"step.py": f("return {'n': lib.C().e.value}", "import lib"), "lib.py": NUMBERED.format("")}, {"lib.py": NUMBERED.format("Z = auto()\n    ")}),
    Change("another function with @step", USES_LIB | {"lib.py": STEPS}, {"lib.py": STEPS + "@step(expires='1d')\ndef g(): pass\n"}, HIT),
    Change("a logger that is used", USES_LIB | {"lib.py": "import logging\nlog = logging.getLogger('a')\ndef n():\n    return log.name\n"}, {"lib.py": "import logging\nlog = logging.getLogger('b')\ndef n():\n    return log.name\n"}),
    Change("an unrelated function", USES_LIB, {"lib.py": "def n():\n    return 1\n\ndef m():\n    return 5\n"}, HIT),
    Change("an unrelated function that changes", USES_LIB | {"lib.py": "def n():\n    return 1\n\ndef m():\n    return 4\n"},
           {"lib.py": "def n():\n    return 1\n\ndef m():\n    return 5\n"}, HIT),
    Change("an unused import", USES_LIB, {"lib.py": "import json\n\ndef n():\n    return 1\n"}, HIT),
    Change("a re-export", USES_LIB | {"pkg/__init__.py": "", "pkg/part.py": "def k():\n    return 1\n",
                                      "step.py": f("return {'n': k()}", "from pkg.part import k")},
           {"pkg/__init__.py": "from pkg.part import k\n"}, HIT),
    Change("a local name", USES_LIB, {"lib.py": "def n():\n    one = 1\n    return one\n"},
           needless="libraries read local names: polars.sql, DataFrame.query('@name'), locals()"),
    Change("a module's name", USES_LIB, {"lib.py": None, "lib2.py": "def n():\n    return 1\n",
                                         "step.py": f("return {'n': lib2.n()}", "import lib2")},
           needless="pickled classes and logs carry it"),
    Change("a constant", USES_LIB | {"lib.py": "K = 1\ndef n():\n    return K\n"}, {"lib.py": "K = 2\ndef n():\n    return K\n"}),
    Change("a constant two modules away", {"step.py": f("return {'n': a.n()}", "import a"), "a.py": "from b import K\ndef n():\n    return K\n",
           "b.py": "K = 1\n"}, {"b.py": "K = 2\n"}),
    Change("a default argument", USES_LIB | {"lib.py": "def n(k=1):\n    return k\n"}, {"lib.py": "def n(k=2):\n    return k\n"}),
    Change("a base class", {"step.py": f("return {'n': C().n}", "from lib import B\nclass C(B): pass"), "lib.py": "class B:\n    n = 1\n"},
           {"lib.py": "class B:\n    n = 2\n"}),
    Change("a decorator", {"step.py": f("return {'n': n()}", "from lib import twice\n@twice\ndef n():\n    return 1"),
           "lib.py": "def twice(g):\n    return lambda: 2 * g()\n"}, {"lib.py": "def twice(g):\n    return lambda: 3 * g()\n"}),
    Change("what a decorator registers", {"step.py": f("return {'n': sorted(lib.ALL)}", "import lib, more"), "lib.py": "ALL = []\ndef reg(g):\n    ALL.append(g.__name__)\n    return g\n",
           "more.py": "from lib import reg\n@reg\ndef a(): pass\n"}, {"more.py": "from lib import reg\n@reg\ndef a(): pass\n@reg\ndef b(): pass\n"}),
    Change("an import inside the function", {"step.py": f("import lib\nreturn {'n': lib.n()}"), "lib.py": USES_LIB["lib.py"]}, {"lib.py": LIB_2}),
    Change("a conditional import", {"step.py": f("return {'n': n()}", "try:\n    from lib import n\nexcept ImportError:\n    n = int")}, {"lib.py": LIB_2}),
    Change("a star import", {"step.py": f("return {'n': n()}", "from lib import *"), "lib.py": USES_LIB["lib.py"]}, {"lib.py": LIB_2}),
    Change("a relative import", {"step.py": f("return {'n': n()}", "from pkg.a import n"), "pkg/__init__.py": "", "pkg/a.py": "from .b import n\n",
           "pkg/b.py": "def n():\n    return 1\n"}, {"pkg/b.py": LIB_2}),
    Change("a package's __init__", {"step.py": f("return {'n': pkg.K}", "import pkg.a"), "pkg/__init__.py": "K = 1\n", "pkg/a.py": ""}, {"pkg/__init__.py": "K = 2\n"}),
    Change("a namespace package", {"step.py": f("return {'n': a.K}", "from spread import a"), "spread/a.py": "K = 1\n"}, {"spread/a.py": "K = 2\n"}),
    Change("importlib.import_module", {"step.py": f("return {'n': importlib.import_module('l' + 'ib').n()}", "import importlib"), "lib.py": USES_LIB["lib.py"]}, {"lib.py": LIB_2}),
    Change("__import__", {"step.py": f("return {'n': __import__('lib').n()}"), "lib.py": USES_LIB["lib.py"]}, {"lib.py": LIB_2}),
    Change("a plugin that a scan finds", {"step.py": f("return {'n': sorted(m.name for m in pkgutil.iter_modules(plug.__path__))}", "import pkgutil, plug"), "plug/__init__.py": "", "plug/a.py": ""}, {"plug/b.py": ""}),
    Change("a plugin that changes", {"step.py": f("names = sorted(p.stem for p in Path(__file__).with_name('plug').glob('*.py'))\nreturn {'n': [importlib.import_module(f'plug.{n}').K for n in names]}", "import importlib\nfrom pathlib import Path"),
           "plug/a.py": "K = 1\n"}, {"plug/a.py": "K = 2\n"}),
    Change("a plugin that a glob finds", {"step.py": f("return {'n': sorted(p.name for p in Path(__file__).with_name('plug').glob('*.py'))}", "from pathlib import Path"), "plug/a.py": ""}, {"plug/b.py": ""}),
    Change("a lazy __getattr__", {"step.py": f("return {'n': lazy.K}", "import lazy"), "lazy.py": "def __getattr__(name):\n    import lib\n    return lib.n()\n", "lib.py": USES_LIB["lib.py"]}, {"lib.py": LIB_2}),
    Change("sys.path.insert", {"step.py": f("return {'n': deep.n()}", "import sys\nfrom pathlib import Path\nsys.path.insert(0, str(Path(__file__).with_name('more')))\nimport deep"), "more/deep.py": USES_LIB["lib.py"]}, {"more/deep.py": LIB_2}),
    Change("exec of a file", {"step.py": f("names = {}\nexec(open(Path(__file__).with_name('code.txt')).read(), names)\nreturn {'n': names['n']()}", "from pathlib import Path"), "code.txt": USES_LIB["lib.py"]}, {"code.txt": LIB_2}),
    Change("source that is read as text", {"step.py": f("return {'n': len(inspect.getsource(lib))}", "import inspect, lib"), "lib.py": "K = 1\n"}, {"lib.py": "K = 1  # and why\n"}),
    Change("a module named like the standard library's", {"step.py": f("return {'n': statistics.n()}", "import statistics"), "statistics.py": USES_LIB["lib.py"]}, {"statistics.py": LIB_2}),
    Change("one that comes to shadow the standard library's", {"step.py": f("return {'n': hasattr(sched, 'mine')}", "import sched")}, {"sched.py": "mine = 1\n"}),
    Change("one that comes to shadow an installed library's", {"step.py": f("return {'n': hasattr(yaml, 'mine')}", "import colorlog as yaml")}, {"colorlog.py": "mine = 1\n"}),
    Change("a package beside a module of its name", USES_LIB, {"lib/__init__.py": LIB_2}),
    Change("a folder without __init__ beside a module of its name", USES_LIB, {"lib/other.py": ""}, HIT),
    Change("what a module takes from another for a third", {"step.py": f("return {'n': a.n()}", "import a, b, c"), "a.py": "from b import n\n", "b.py": "def n():\n    return 1\n", "c.py": "def n():\n    return 2\n"}, {"a.py": "from c import n\n"}),
    Change("an unrelated module", USES_LIB, {"other.py": "K = 2\n"}, HIT),
    Change("an unrelated module that changes", USES_LIB | {"other.py": "K = 1\n"}, {"other.py": "K = 2\n"}, HIT),
    Change("an unrelated data file", USES_LIB, {"notes.md": "# notes\n"}, HIT),
    Change("a helper's global that another function sets", USES_LIB | {"lib.py": "S = {'k': 1}\ndef put():\n    S['k'] = 1\nput()\ndef n():\n    return S['k']\n"}, {"lib.py": "S = {'k': 1}\ndef put():\n    S['k'] = 7\nput()\ndef n():\n    return S['k']\n"}),
    Change("a monkey patch", USES_LIB | {"step.py": f("return {'n': lib.n()}", "import lib, patch"), "patch.py": "import lib\nlib.n = lambda: 5\n"}, {"patch.py": "import lib\nlib.n = lambda: 6\n"}),
    Change("an import that gives another module a submodule", {"step.py": f("return {'n': hasattr(wsgiref, 'headers')}", "import wsgiref, lib"), "lib.py": "import wsgiref.headers\n"}, {"lib.py": "import wsgiref\n"}),
    Change("the line of a warning", {"step.py": f("with warnings.catch_warnings(record=True) as caught:\n    warnings.simplefilter('always')\n    warnings.warn('x')\n    return {'n': caught[0].lineno}", "import warnings")}, {"step.py": "# why\n" + f("with warnings.catch_warnings(record=True) as caught:\n    warnings.simplefilter('always')\n    warnings.warn('x')\n    return {'n': caught[0].lineno}", "import warnings")}),
    Change("globals() by name", USES_LIB | {"lib.py": "def a():\n    return 1\ndef n():\n    return globals()['a']()\n"}, {"lib.py": "def a():\n    return 2\ndef n():\n    return globals()['a']()\n"}),
    *(Change(f"a name that a parameter gives to {what}", {"step.py": f(f"lib.used()\nreturn {{'n': {call}()}}", f"{head}\nimport lib", "*, name: str"), **NAMED}, NAMED_2, MISS, {"params": {"name": name}})
      for what, head, call, name in (
          ("yaml.Loader", "import yaml", "yaml.load(name, Loader=yaml.Loader)", "!!python/name:lib.a"),
          ("yaml.UnsafeLoader", "import yaml", "yaml.load(name, yaml.UnsafeLoader)", "!!python/name:lib.a"),
          ("yaml.FullLoader", "import yaml", "yaml.load(name, yaml.FullLoader)", "!!python/name:lib.a"),
          ("ImportString", "from pydantic import ImportString, TypeAdapter", "TypeAdapter(ImportString).validate_python(name)", "lib.a"),
          ("import_string", "from werkzeug.utils import import_string", "import_string(name)", "lib:a"),
          ("EntryPoint", "from importlib.metadata import EntryPoint", "EntryPoint('x', name, 'g').load()", "lib:a"),
          ("__getattribute__", "", "lib.__getattribute__(name)", "a"),
          ("a worker's loader", "import multiprocessing, yaml\ndef work(name):\n    return yaml.load(name, yaml.Loader)()", "(lambda: multiprocessing.get_context('fork').Pool(1).apply(work, (name,)))", "!!python/name:lib.a"),
      )),
    Change("what a library reads by name of a module, but not this", {"step.py": f("lib.used()\nreturn {'n': yaml.load(name, yaml.Loader)()}", "import yaml\nimport lib", "*, name: str"), **NAMED}, {"lib.py": NAMED["lib.py"] + "def more():\n    pass\n"}, HIT, {"params": {"name": "!!python/name:lib.a"}}),
    Change("a module that gives itself another class", {"step.py": f("return {'n': lib.k}", "import lib"), "lib.py": OWN_CLASS.format(1)}, {"lib.py": OWN_CLASS.format(2)}),
    Change("getattr on a module", USES_LIB | {"step.py": f("return {'n': getattr(lib, 'a')()}", "import lib"), "lib.py": "def a():\n    return 1\n"}, {"lib.py": "def a():\n    return 2\n"}),
]  # fmt: skip

PICKLED = f(
    "return {'n': pickle.loads(model.read_bytes()).n()}",
    "import pickle\nfrom pathlib import Path\nimport lib",
    "model: Path",
)
FORKS = "import importlib.util, multiprocessing, os\nfrom concurrent.futures import ProcessPoolExecutor\nB = os.path.dirname(__file__)\n"
A_CLASS = "class M:\n    def n(self):\n        return 1\n"

FILES = [
    Change("a file's size", {"step.py": f("return {'n': Path(__file__).with_name('data.json').stat().st_size}", "from pathlib import Path"), "data.json": "1"}, {"data.json": "12"}),
    Change("a file in the bundle, where a library looks for installed distributions", {"step.py": f("return {'n': len(list(importlib.metadata.entry_points())) > 0}", "import importlib.metadata")}, {"more.py": ""}, HIT),
    Change("a folder that is made where it is", {"step.py": f("os.makedirs(os.path.dirname(__file__), exist_ok=True)\nreturn {'n': 1}", "import os")}, {"more.py": ""}, HIT),
    Change("a temporary file that the step makes and reads", {"step.py": f("with tempfile.TemporaryDirectory() as d:\n    Path(d, 'a').write_text('x')\n    Path(d, 'a').rename(Path(d, 'b'))\n    os.mkdir(Path(d, 'c'))\n    return {'n': Path(d, 'b').read_text() + str(len(list(Path(d).iterdir())))}", "import os, tempfile\nfrom pathlib import Path")}, {"more.py": ""}, HIT),
    Change("a class that only a pickle names", {"step.py": PICKLED, "lib.py": A_CLASS, "m.pickle": b"clib\nM\n)\x81."}, {"lib.py": A_CLASS.replace("1", "2")}, MISS, {"inputs": {"model": {"url": "m.pickle"}}}),
    Change("a data file that the code reads", {"step.py": READS, "data.json": "1"}, {"data.json": "2"}),
    Change("a data file written anew with the same bytes", {"step.py": READS, "data.json": "1"}, {"data.json": b"1"}, HIT),
    Change("a data file that the code looks for", {"step.py": f("return {'n': (Path(__file__).parent / 'flag').exists()}", "from pathlib import Path")}, {"flag": ""}),
    Change("os.path.exists", {"step.py": f("return {'n': os.path.exists(os.path.join(os.path.dirname(__file__), 'flag'))}", "import os")}, {"flag": ""}),
    Change("a file that is missing and comes", {"step.py": f("try:\n    return {'n': (Path(__file__).parent / 'opt').read_text()}\nexcept FileNotFoundError:\n    return {'n': 0}", "from pathlib import Path")}, {"opt": "x"}),
    Change("a database that a library reads natively", {"step.py": f("db = sqlite3.connect(f'file:{Path(__file__).parent}/d.sqlite?mode=ro', uri=True)\nreturn {'n': db.execute('select n from t').fetchall()}", "import sqlite3\nfrom pathlib import Path"), "d.sqlite": database(1)}, {"d.sqlite": database(2)}),
    Change("a table that Polars reads natively", {"step.py": f("return {'n': pl.read_csv(Path(__file__).with_name('t.csv')).rows()}", "import polars as pl\nfrom pathlib import Path"), "t.csv": "a\n1\n"}, {"t.csv": "a\n2\n"}),
    Change("another layout of the same Parquet table", {"step.py": f("return {'n': table.collect().rows()}", "import polars as pl", "table: pl.LazyFrame"), "t.parquet": parquet("zstd")},
           {"t.parquet": parquet("snappy")}, MISS, {"inputs": {"table": {"url": "t.parquet"}}}, needless="only reading both tells that their rows are the same"),
    Change("a file that a program reads", {"step.py": f("return {'n': subprocess.run(['cat', str(Path(__file__).with_name('data.json'))], capture_output=True, text=True).stdout}", "import subprocess\nfrom pathlib import Path"), "data.json": "1"}, {"data.json": "2"}),
    Change("a module that a started Python imports", {"step.py": f("env = {'PYTHONPATH': str(Path(__file__).parent)}\nreturn {'n': subprocess.run([sys.executable, '-c', 'import lib; print(lib.n())'], capture_output=True, text=True, env=env).stdout}", "import subprocess, sys\nfrom pathlib import Path"), "lib.py": USES_LIB["lib.py"]}, {"lib.py": LIB_2}),
    Change("a module that a forked worker imports", {"step.py": f("with multiprocessing.get_context('fork').Pool(1) as pool:\n    return {'n': pool.apply(work)}", "import multiprocessing\ndef work():\n    import lib\n    return lib.n()"), "lib.py": USES_LIB["lib.py"]}, {"lib.py": LIB_2}),
    *(Change(f"what a forked worker looks for: {what}", {"step.py": f(f"with {pool} as pool:\n    return {{'n': pool.{call}}}", FORKS + f"def work(_=0):\n{textwrap.indent(body, '    ')}"), "data": "1"}, after)
      for pool, call in (("multiprocessing.get_context('fork').Pool(1)", "apply(work)"), ("ProcessPoolExecutor(1)", "submit(work).result()"))
      for what, body, after in (
          (f"a file, {pool}", "return os.path.exists(B + '/flag')", {"flag": ""}),
          (f"a size, {pool}", "return os.path.getsize(B + '/data')", {"data": "22"}),
          (f"a module, {pool}", "return importlib.util.find_spec('opt') is not None", {"opt.py": ""}),
          (f"a module to import, {pool}", "try:\n    return importlib.import_module('opt').K\nexcept ImportError:\n    return 0", {"opt.py": "K = 1\n"}),
      )),
    Change("what a forked process looks for", {"step.py": f("r, w = os.pipe()\nif os.fork() == 0:\n    os.write(w, str(os.path.exists(B + '/flag')).encode())\n    os._exit(0)\nos.wait()\nreturn {'n': os.read(r, 9).decode()}", FORKS)}, {"flag": ""}),
    Change("a file that no forked worker looks at", {"step.py": f("with ProcessPoolExecutor(1) as pool:\n    return {'n': pool.submit(os.path.exists, B + '/flag').result()}", FORKS)}, {"more.py": ""}, HIT),
]  # fmt: skip

RULES = "tags: [a, b]\nrules:\n  - name: one\n    tag: a\n    {python}\n"
RULES_STEP = f(
    "import importlib\nout = []\nfor rule in rules.rules:\n    m, _, g = rule.python.partition(':')\n"
    "    out.append([rule.name, getattr(importlib.import_module(m), g)()])\nreturn {'n': out}",
    "from kommuna.spec.rules import RuleSet", "rules: RuleSet",
)  # fmt: skip
MINE = {"step.py": RULES_STEP, "mine.py": "def g():\n    return 1\n"}
MINE_2 = {"mine.py": "def g():\n    return 2\n"}


def _rules(suffix: str) -> dict[str, Any]:
    return {"inputs": {"rules": {"url": f"rules.{suffix}"}}}


PYTHON_RULES = [
    Change(f"a Python rule's helper: {python}", MINE | {"rules.yaml": RULES.format(python=python)}, MINE_2, MISS, _rules("yaml"))
    for python in ("python: mine:g", '"python": mine:g', "python : 'mine:g'", "python: &x mine:g", "python: >-\n      mine:g")
] + [
    Change("a Python rule's helper, .YAML", MINE | {"rules.YAML": RULES.format(python="python: mine:g")}, MINE_2, MISS, _rules("YAML")),
    Change("a Python rule's helper, JSON", MINE | {"rules.json": '{"tags": ["a", "b"], "rules": [{"name": "one", "tag": "a", "python": "mine:g"}]}'}, MINE_2, MISS, _rules("json")),
    Change("a commented-out rule that names no module", MINE | {"rules.yaml": RULES.format(python="python: mine:g")}, {"rules.yaml": RULES.format(python="python: mine:g") + "#  - {name: two, tag: a, python: absent:g}\n"}, HIT, _rules("yaml")),
    Change("a YAML comment", MINE | {"rules.yaml": RULES.format(python="python: mine:g")}, {"rules.yaml": "# for May\n" + RULES.format(python="python: mine:g")}, HIT, _rules("yaml")),
    Change("a YAML comment that the step can see", {"step.py": f("return {'n': rules.read_text()}", "from pathlib import Path", "rules: Path"), "rules.yaml": "a: 1\n"}, {"rules.yaml": "a: 1 # one\n"}, MISS, _rules("yaml")),
    *(Change(f"a YAML comment, read as {kind}", {"step.py": f("return {'n': repr(doc)}", "from pydantic import BaseModel\nfrom pathlib import Path\nclass M(BaseModel):\n    a: list[int]\n", f"doc: {kind}"), "d.yaml": "a: [1]\n"}, {"d.yaml": "# one\na:\n  - 1\n"}, HIT, {"inputs": {"doc": {"url": "d.yaml"}}})
      for kind in ("M", "M | None", "dict[str, list[int]]", "dict", "object")),
    Change("a YAML value, read as a dict", {"step.py": f("return {'n': repr(doc)}", "", "doc: dict[str, int]"), "d.yaml": "a: 1\nb: 2\n"}, {"d.yaml": "b: 2\na: 1\n"}, MISS, {"inputs": {"doc": {"url": "d.yaml"}}}),
    Change("a YAML comment in a dict of files", {"step.py": f("return {'n': doc['x'].read_text()}", "from pathlib import Path", "doc: dict[str, Path]"), "d.yaml": "a: 1\n"}, {"d.yaml": "a: 1 # one\n"}, MISS, {"inputs": {"doc": {"x": {"url": "d.yaml"}}}}),
    Change("a YAML value", MINE | {"rules.yaml": RULES.format(python="python: mine:g")}, {"rules.yaml": RULES.format(python="python: mine:g").replace("one", "two")}, MISS, _rules("yaml")),
]  # fmt: skip

SEES = f("return {'n': list(table.items())}", "", TABLE)
INPUTS = [
    Change("an input's content", {"step.py": SEES, "in.json": '{"a": 1}'}, {"in.json": '{"a": 2}'}, MISS, IN_JSON),
    Change("an input's order", {"step.py": SEES, "in.json": '{"a": 1, "b": 2}'}, {"in.json": '{"b": 2, "a": 1}'}, MISS, IN_JSON),
    Change("an input under another name", {"step.py": SEES, "in.json": '{"a": 1}', "in2.json": '{"a": 1}'}, {}, HIT, IN_JSON, {"inputs": {"table": {"url": "in2.json"}}}),
    Change("the same bytes under another suffix", {"step.py": f("return {'n': table.suffix}", "from pathlib import Path", "table: Path"), "in.csv": "a", "in.ndjson": "a"}, {}, MISS, {"inputs": {"table": {"url": "in.csv"}}}, {"inputs": {"table": {"url": "in.ndjson"}}}),
    Change("a dict input's order", {"step.py": f("return {'n': list(t)}", "", "t: dict[str, dict[str, int]]"), "a.json": '{"a": 1}', "b.json": '{"b": 1}'}, {}, MISS,
           {"inputs": {"t": {"x": {"url": "a.json"}, "y": {"url": "b.json"}}}}, {"inputs": {"t": {"y": {"url": "b.json"}, "x": {"url": "a.json"}}}}),
    Change("a list input's order", {"step.py": f("return {'n': t}", "", "t: list[dict[str, int]]"), "a.json": '{"a": 1}', "b.json": '{"b": 1}'}, {}, MISS,
           {"inputs": {"t": [{"url": "a.json"}, {"url": "b.json"}]}}, {"inputs": {"t": [{"url": "b.json"}, {"url": "a.json"}]}}),
    Change("the order of arguments", {"step.py": f("return {'n': [a, b]}", "", "a: dict[str, int], b: dict[str, int]"), "a.json": '{"a": 1}', "b.json": '{"b": 1}'}, {}, HIT,
           {"inputs": {"a": {"url": "a.json"}, "b": {"url": "b.json"}}}, {"inputs": {"b": {"url": "b.json"}, "a": {"url": "a.json"}}}),
    Change("an optional input that is left out or None", {"step.py": f("return {'n': t}", "", "t: dict[str, int] | None = None")}, {}, HIT, {"inputs": {"t": None}}, {"inputs": {}}),
    Change("an input that is left out or None, which differ", {"step.py": f("return {'n': t}", "", "t: dict[str, int] | None = (1,)")}, {}, MISS, {"inputs": {"t": None}}, {"inputs": {}}),
    Change("an optional file that is left out or None", {"step.py": f("return {'n': str(t)}", "from pathlib import Path", "a: Path | None = None, t: Path | None = None")}, {}, HIT, {"inputs": {"t": None}}, {"inputs": {"a": None}}),
    Change("an optional input that comes", {"step.py": f("return {'n': t}", "", "t: dict[str, int] | None = None"), "a.json": '{"a": 1}'}, {}, MISS, {"inputs": {"t": None}}, {"inputs": {"t": {"url": "a.json"}}}),
]  # fmt: skip


def p(arguments: str, before: Any, after: Any, *, hit: bool = MISS, name: str = "", head: str = "") -> Change:
    """A change of the parameter `x`; None is left out."""
    said = name or f"parameter {arguments}: {before!r} to {after!r}"
    source = f("return {'n': repr(x)}", f"from typing import Any, Literal\nimport datetime\n{head}", f"*, {arguments}")
    spec, spec_after = ({"params": {} if value is ... else {"x": value}} for value in (before, after))
    return Change(said, {"step.py": source}, {}, hit, spec, spec_after)


HEADS = (
    "import dataclasses, enum\nfrom decimal import Decimal\nfrom pathlib import Path\nfrom typing import Annotated, NewType\n"
    "from pydantic import AfterValidator, BaseModel, PositiveInt\nclass M(BaseModel):\n    a: int\n    b: int = 5\n"
    "@dataclasses.dataclass\nclass D:\n    a: int\n    b: int = 5\nclass E(enum.Enum):\n    A = 'a'\n    B = 'b'\n"
    "N = NewType('N', int)\nName = Annotated[str, AfterValidator(str.strip)]\nTurned = Annotated[str, AfterValidator(lambda s: s[::-1])]\n"
)
PARAMETERS = [
    p("x: int", 1, 2),
    p("x: int", 1, "1", hit=HIT),
    p("x: float", 0, 0.0, hit=HIT),
    p("x: float", 0.1, "0.1", hit=HIT),
    p("x: float", 1e-7, "1e-7", hit=HIT),
    p("x: Any", 0, 0.0),
    p("x: Any", 1, True),
    p("x: Any", "1", 1),
    p("x: int = 3", ..., 3, hit=HIT),
    p("x: int = 3", ..., 4),
    p("x: int | None = None", ..., None, hit=HIT),
    p("x: int | None = 3", ..., None),
    p("x: dict[str, int]", {"a": 1, "b": 2}, {"b": 2, "a": 1}),
    p("x: dict[int, int]", {"1": 2}, {1: 2}, hit=HIT),
    p("x: list[int]", [1, 2], [2, 1]),
    p("x: set[int]", [1, 2], [2, 1], hit=HIT),
    p("x: set[int]", [0, 8], [8, 0], hit=HIT),  # one place in a hash table: the first that comes has it
    p("x: dict[str, list[frozenset[int]]]", {"a": [[0, 8]]}, {"a": [[8, 0]]}, hit=HIT),
    p("x: set[int] = {8, 0}", ..., [0, 8], hit=HIT),
    *(
        p(f"x: {kind}", before, after, hit=HIT, head=HEADS)
        for kind, before, after in (
            ("M", {"a": 1, "b": 2}, {"b": "2", "a": "1"}),
            ("D", {"a": 1, "b": 2}, {"b": 2.0, "a": "1"}),
            ("D", {"a": 1}, {"a": 1, "b": 5}),
            ("N", 1, "1"),
            ("PositiveInt", 1, "1"),
            ("list[M]", [{"a": 1}], [{"a": "1"}]),
            ("int = 60 * 60", ..., 3600),
            ("datetime.date = datetime.date(2026, 1, 1)", ..., "2026-01-01"),
            ("Path = Path('a')", ..., "a"),
            ("Decimal = Decimal('1')", ..., "1"),
            ("E = E.A", ..., "a"),
            ("Name", "a ", "a"),
        )
    ),
    *(
        p(f"x: {kind}", before, after, head=HEADS)
        for kind, before, after in (
            ("M", {"a": 1}, {"a": 2}),
            ("D", {"a": 1, "b": 2}, {"a": 1, "b": 3}),
            ("E", "a", "b"),
            ("N", 1, 2),
            ("Turned", "ab", "ba"),
        )
    ),
    p(
        "x: M",
        {"a": 1},
        {"a": 1, "b": 5},
        head=HEADS.replace(
            "class M(BaseModel):", "class M(BaseModel):\n    def __repr__(self): return str(self.model_fields_set)"
        ),
    ),
    p("x: datetime.date", "2026-05-01", "2026-05-02"),
    p("x: datetime.date", "2026-05-01", "2026-05-01T00:00:00", hit=HIT),
    p("x: Literal['a', 'b']", "a", "b"),
    p("x: str", "a\x85b", "a b"),
    p("x: str", "a", "a "),
    p("x: bool = True", ..., "yes", hit=HIT),
    p("x: float = 0", ..., 0, hit=HIT),
    p("x: float = 0", ..., 0.5),
    p("x: list[str] | None = []", ..., [], hit=HIT),
    p("x: list[int] = (1, 2)", ..., [1, 2], hit=HIT),
    p("x: tuple[int, ...] = [1, 2]", ..., [1, 2], hit=HIT),
    p("x: dict[str, set[int]] = {'a': [2, 1]}", ..., {"a": [1, 2]}, hit=HIT),
    p("x: datetime.date = '2026-05-01'", ..., "2026-05-01", hit=HIT),
    p("x: int = None", ..., 1),  # which the type refuses: it reaches the step as it stands
]

LOOKS_AT = "return {{'n': {0}}}"
AROUND = [
    Change("another run", {"step.py": f("return {'n': 1}")}, {}, HIT, {"run_id": "a"}, {"run_id": "b"}),
    Change("the run's id, which the step reads", {"step.py": f("return {'n': context.run_id}", "from kommuna.spec.step import StepContext", "*, context: StepContext")}, {}, MISS, {"run_id": "a"}, {"run_id": "b"}),
    Change("the run's id, where the step reads another field", {"step.py": f("return {'n': context.team}", "from kommuna.spec.step import StepContext", "*, context: StepContext")}, {}, HIT, {"run_id": "a"}, {"run_id": "b"}),
    Change("all of the context as a dict", {"step.py": f("return {'n': context.model_dump(mode='json')}", "from kommuna.spec.step import StepContext", "*, context: StepContext")}, {}, MISS, {"run_id": "a"}, {"run_id": "b"}),
    Change("the DAG, which the step does not read", {"step.py": f("return {'n': 1}")}, {}, HIT, {"dag_id": "a"}, {"dag_id": "b"}),
    Change("memory and time", {"step.py": f("return {'n': 1}")}, {}, HIT, {}, {"resources": {"memory": "2Gi", "seconds": 60}}),
    Change("threads", {"step.py": f("return {'n': os.environ['OMP_NUM_THREADS']}", "import os")}, {}, MISS, {}, {"resources": {"cpu": "2"}}),
    Change("an endpoint that the step uses", {"step.py": f("return {'n': client.url}", "class C:\n    def __init__(self, url): self.url = url\n    @classmethod\n    def from_services(cls, services): return cls(services.mlflow)", "*, client: C")}, {}, MISS, {"services": {"mlflow": "http://a"}}, {"services": {"mlflow": "http://b"}}),
    Change("an endpoint that the step does not use", {"step.py": f("return {'n': 1}")}, {}, HIT, {"services": {"mlflow": "http://a"}}, {"services": {"mlflow": "http://b"}}),
    Change("another step of the module", {"step.py": "def f() -> dict[str, int]:\n    return {'n': 1}\ndef g() -> dict[str, int]:\n    return {'n': 5}\n"}, {}, MISS, {}, {"function": "step:g"}),
    Change("the time zone", {"step.py": f("return {'n': time.tzname}", "import time")}, {}, HIT),
    Change("the language", {"step.py": f("return {'n': [locale.getpreferredencoding(), os.environ['LANG']]}", "import locale, os")}, {}, HIT),
    Change("variables of the caller's", {"step.py": f("return {'n': os.environ.get('FOREIGN', 'none')}", "import os")}, {}, HIT),
]  # fmt: skip

ALL = [*CODE, *FILES, *PYTHON_RULES, *INPUTS, *PARAMETERS, *AROUND]


@pytest.mark.parametrize("change", ALL, ids=lambda change: change.name)
def test_a_change_is_a_hit_or_a_miss_and_a_hit_is_what_a_fresh_run_leaves(rig: CacheRig, change: Change) -> None:
    rig.write(change.files)
    first = rig.run(**change.spec)
    assert not first.hit
    assert rig.run(**change.spec).hit, rig.manifest(first.result).uses
    rig.write(change.after)
    after = {**change.spec, **change.spec_after}
    second = rig.run(**after)
    fresh = rig.run(**after, cache=False)
    assert not fresh.hit
    if second.hit:
        assert second.content == fresh.content == first.content  # never stale
    assert second.hit == change.hit, (change.name, rig.manifest(second.result).uses)
    assert rig.run(**after).hit  # and then it is known
    if not second.hit and not change.needless:
        assert fresh.content != first.content, f"{change.name}: a needless miss, and no reason is given"


def test_the_table_is_long_and_has_few_needless_misses() -> None:
    assert len(ALL) >= 100
    assert len({change.name for change in ALL}) == len(ALL)
    assert [
        change.name for change in ALL if change.needless and not change.name.startswith("an addition that acts")
    ] == [
        "a local name",
        "a module's name",
        "another layout of the same Parquet table",
    ]
