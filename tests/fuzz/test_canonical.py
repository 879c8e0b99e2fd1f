"""The cache's view of parameters, for random signatures: equal exactly if the step receives equal values."""

from __future__ import annotations

import importlib
import itertools
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from hypothesis import event
from hypothesis import strategies as st
from pydantic import BaseModel
from tests.fuzz.campaign import attempt, fuzzed

from kommuna.runtime.binding import find_step
from kommuna.store.parameters import canonical_params

HEADER = """
import datetime
import datetime as dt
import typing
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, timedelta
from decimal import Decimal
from enum import Enum, IntEnum
from pathlib import Path
from typing import Annotated, Any, Literal, Optional, Union
from uuid import UUID
from pydantic import AfterValidator, BaseModel, Field, StringConstraints
from kommuna.spec.table import TableSchema

Share = Annotated[float, Field(ge=0, le=1)]
Word = Annotated[str, StringConstraints(strip_whitespace=True, to_lower=True)]
Words = list[Word]
Odd = Annotated[int, AfterValidator(lambda value: value % 2)]
FIVE = 5
NAMES = ("a", "b")
WHOLE = True
WHOLE = 1

class Colour(Enum):
    RED = "red"
    ONE = 1

class Level(IntEnum):
    LOW = 0
    HIGH = 1

class Options(BaseModel):
    factor: int = 1
"""
# Of these the source alone does not say what the step makes of a value: equal values may have two canonical forms.
UNDETERMINED = r"Colour|Level|Options|Odd|Iterable"
# These defaults are no literals: left out, and given, they are two.
UNTOLD_DEFAULT = r"^(Colour|date\(|float\(|Decimal\(|WHOLE|Options|\[FIVE|Path)"

INTS = st.sampled_from([0, 1, 2, 5, 0.0, -0.0, 1.0, True, False, "0", "1", "01", " 1", "1.0", "1_0", -1, 10**22, 1e22])
FLOATS = INTS | st.sampled_from([0.5, "0.5", "0.50", "5e-1", 1e-7, "nan", "NaN", "inf", "-Infinity"])
BOOLS = st.sampled_from([True, False, 0, 1, 1.0, "true", "True", "1", "no", "off"])
TEXTS = st.sampled_from(["a", "A", " a ", "b", "1", "", "Á", "red", "$set", "a/b", "a//b", "a/./b", "null"])
DATES = st.sampled_from(
    ["2026-01-02", "2026-01-02T00:00:00", "2026-01-02T00:00:00Z", "2026-01-02 00:00:00+00:00", "2026-01-02T01:00:00+01:00",
     "2026-01-02T00:00", 1767312000, "1767312000", 1767312000.0, 1767312000000]
)  # fmt: skip
TIMES = st.sampled_from(["12:00", "12:00:00", "12:00:00.0", "12:00Z", "12:00:00+00:00", 43200, "43200"])
DURATIONS = st.sampled_from(["PT1H", "PT60M", "P0DT3600S", 3600, 3600.0, "01:00:00", "3600", -1, "-PT1S"])
UUIDS = st.sampled_from(
    ["00000000-0000-0000-0000-000000000001", "0" * 31 + "1", "urn:uuid:00000000-0000-0000-0000-000000000001"]
)
SCHEMAS = st.sampled_from(
    [{"columns": {"a": "String", "b": "Int64"}}, {"columns": {"b": "int", "a": "str"}}, {"columns": {"a": "str", "b": "int"}},
     {"columns": {"a": "str", "b": "int"}, "required": []}, {"required": ["a"], "columns": {"a": "str"}}]
)  # fmt: skip
NOTHING = st.just(None)
LISTS = st.lists(INTS, max_size=3)
DICTS = st.dictionaries(st.sampled_from(["a", "b", "1", "$set", "$given"]), INTS, max_size=3)
ANY = st.one_of(FLOATS, BOOLS, TEXTS, DATES, NOTHING, LISTS, DICTS, st.lists(DICTS | LISTS, max_size=2))

Case = tuple[str, st.SearchStrategy[Any]]  # an annotation, and values that may be of it
ATOMS: list[Case] = [
    ("int", INTS), ("float", FLOATS), ("bool", BOOLS), ("str", TEXTS), ("bytes", TEXTS), ("object", ANY), ("Any", ANY),
    ("None", NOTHING), ("date", DATES), ("dt.datetime", DATES), ("datetime.time", TIMES), ("timedelta", DURATIONS),
    ("Decimal", FLOATS), ("UUID", UUIDS), ("Path", TEXTS), ("Share", FLOATS), ("Word", TEXTS),
    ("Words", st.lists(TEXTS, max_size=3)), ("TableSchema", SCHEMAS), ("typing.Any", ANY), ("list", LISTS), ("dict", DICTS),
    ("set", LISTS), ("tuple", LISTS), ("Literal['a', 'b']", TEXTS), ("Literal[0, 'a']", TEXTS | INTS),
    ("Literal[1, True]", BOOLS), ("Literal[-1, None]", INTS | NOTHING), ("Annotated[int, Field(gt=0)]", INTS),
    ("Annotated[int, Field(strict=True)]", INTS), ("Annotated[Decimal, Field(max_digits=3)]", FLOATS),
]  # fmt: skip
UNTOLD_ATOMS: list[Case] = [
    ("Colour", st.sampled_from(["red", 1, True, 1.0])), ("Level", INTS), ("Odd", INTS),
    ("Options", st.dictionaries(st.sampled_from(["factor", "x"]), INTS, max_size=2)),
]  # fmt: skip
KEYS: list[Case] = [
    ("str", TEXTS), ("int", INTS), ("float", FLOATS), ("bool", BOOLS), ("date", DATES), ("Any", TEXTS), ("Word", TEXTS),
    ("Literal['1', 1]", INTS), ("int | str", INTS), ("Colour", st.just("red")),
]  # fmt: skip


def _listed(name: str, inner: Case) -> Case:
    return f"{name}[{inner[0]}{', ...' if name == 'tuple' else ''}]", st.lists(inner[1], max_size=3)


def _mapped(name: str, key: Case, inner: Case) -> Case:
    texts = key[1].map(lambda made: made if isinstance(made, str) else json.dumps(made))
    return f"{name}[{key[0]}, {inner[0]}]", st.dictionaries(texts, inner[1], max_size=3)


def _united(parts: list[Case], how: str) -> Case:
    names = [name for name, _ in parts]
    return " | ".join(names) if how == "|" else f"{how}[{', '.join(names)}]", st.one_of(*(made for _, made in parts))


def _around(inner: st.SearchStrategy[Case]) -> st.SearchStrategy[Case]:
    collections = ["list", "set", "frozenset", "tuple", "Sequence", "Iterable", "typing.List", "typing.Set"]
    return st.one_of(
        st.builds(_united, st.lists(inner, min_size=2, max_size=3), st.sampled_from(["|", "Union"])),
        inner.map(lambda part: (f"Optional[{part[0]}]", part[1] | NOTHING)),
        st.builds(_listed, st.sampled_from(collections), inner),
        st.builds(_mapped, st.sampled_from(["dict", "Mapping", "typing.Dict"]), st.sampled_from(KEYS), inner),
        st.lists(inner, min_size=1, max_size=3).map(
            lambda parts: (
                f"tuple[{', '.join(name for name, _ in parts)}]",
                st.tuples(*(made for _, made in parts)).map(list),
            )
        ),
    )


ANNOTATIONS = st.recursive(st.sampled_from(ATOMS) | st.sampled_from([*ATOMS, *UNTOLD_ATOMS]), _around, max_leaves=4)
CASES = ANNOTATIONS.flatmap(
    lambda case: st.tuples(st.just(case[0]), st.lists(case[1], min_size=1, max_size=4), st.lists(ANY, max_size=2))
)
DEFAULTS = st.sampled_from(
    ["", "", "0", "0.0", "1", "True", "'a'", "None", "()", "[]", "{}", "[1]", "(1, 2)", "{1, 2}", "set()", "{'b': 1, 'a': 2}",
     "'1'", "-1", "1e999", "b'a'", "FIVE", "NAMES", "'2026-01-02'", "Colour.RED", "date(2026, 1, 2)", "float('nan')",
     "Decimal('1.0')", "WHOLE", "Options()", "[FIVE]", "Path('a')", "'\\ud83d'"]
)  # fmt: skip


def _rewritten(value: Any) -> Iterator[Any]:
    """Draws other values that a step may convert to the same."""
    yield value
    if isinstance(value, list):
        yield value[::-1]
        yield [*value, *value[:1]]
        yield from ([*value[:i], other, *value[i + 1 :]] for i, item in enumerate(value) for other in _rewritten(item))
    elif isinstance(value, dict):
        yield dict(reversed(value.items()))
        yield from ({**value, name: other} for name, item in value.items() for other in _rewritten(item))
    elif isinstance(value, bool):
        yield from (int(value), str(value).lower(), float(value))
    elif isinstance(value, int | float):
        yield from (float(value), str(value), str(float(value)))
        if value == int(value):
            yield from (int(value), str(int(value)), value == 1)
    elif isinstance(value, str):
        yield from (value.upper(), f" {value}", f"{value}0")


@dataclass(frozen=True)
class Seen:
    """Returns the value that a step receives; None if it refuses it."""

    text: str | None
    canonical: str


def strictly(value: Any) -> str:
    """Returns a value as text with the type and order of every part."""
    kind = type(value).__qualname__
    if isinstance(value, Enum):
        return repr(value)
    if isinstance(value, BaseModel):
        return f"{kind}({', '.join(f'{name}={strictly(item)}' for name, item in value)})"
    if isinstance(value, set | frozenset):
        return f"{kind}({sorted(map(strictly, value))})"
    if isinstance(value, list | tuple):
        return f"{kind}({', '.join(map(strictly, value))})"
    if isinstance(value, dict):
        return f"{kind}({', '.join(f'{strictly(key)}: {strictly(item)}' for key, item in value.items())})"
    if hasattr(value, "__next__"):
        items, error = attempt_all(value)
        return f"iterator({strictly(items)}, {error})"
    return f"{kind}({str(value) if kind == 'datetime' else value!r})"


def attempt_all(items: Iterator[Any]) -> tuple[list[Any], str]:
    """Returns the items of a lazy iterator until one has the wrong type."""
    found: list[Any] = []
    try:
        for item in items:
            found.append(item)
    except BaseException as error:  # pydantic's own panic too, on an iterable of a type that it defines once
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        return found, type(error).__name__
    return found, ""


_numbers = itertools.count()


@fuzzed(
    examples=150,
    case=CASES,
    default=DEFAULTS,
    future=st.booleans(),
    quoted=st.booleans(),
)
def test_parameters_are_equal_to_the_cache_exactly_if_they_are_equal_to_the_step(
    folder: Path, case: tuple[str, list[Any], list[Any]], default: str, future: bool, quoted: bool
) -> None:
    annotation, values = case[0], [*case[1], *case[2]]
    name = f"fuzz_canonical_{next(_numbers)}"
    path = folder / f"{name}.py"
    written = repr(annotation) if quoted else annotation
    path.write_text(
        ("from __future__ import annotations\n" if future else "")
        + HEADER
        + f"\ndef f(*, x: {written}{f' = {default}' if default else ''}): ...\n"
    )
    importlib.invalidate_caches()
    try:
        step, error = attempt(lambda: find_step(f"{name}:f", bundle=folder))
        if error is not None:
            event("no step")
            return
        defaults = step.function.__kwdefaults__ or {}
        seen: dict[str, Seen] = {}
        tried = [other for value in values for other in _rewritten(value)][:40]
        for params in [*({"x": value} for value in tried), *([{}] if default else [])]:
            bound, error = attempt(lambda params=params: step.check_params(params))
            canonical = json.dumps(canonical_params(f"{name}:f", params, bundle=folder))
            text = None if error else strictly({**defaults, **bound}["x"])
            seen.setdefault(json.dumps(params), Seen(text, canonical))
    finally:
        sys.modules.pop(name, None)
        path.unlink()
    undetermined = re.search(UNDETERMINED, annotation)
    given_default = re.search(UNTOLD_DEFAULT, default) or "\\ud" in default
    for (one_given, one), (other_given, other) in itertools.combinations(seen.items(), 2):
        if one.canonical == other.canonical:  # never stale
            assert one.text == other.text, (one_given, other_given, one, other)
        elif one.text is not None and one.text == other.text and not undetermined:
            assert given_default, (one_given, other_given, one, other)
            assert "{}" in (one_given, other_given), (one_given, other_given, one, other)
    event("undetermined" if undetermined else "determined")
