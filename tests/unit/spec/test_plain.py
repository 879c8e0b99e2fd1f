"""Values as JSON: what pydantic reads back to the type that they had, or a refusal that names the part."""

from __future__ import annotations

import dataclasses
import ipaddress
import json
import subprocess
import sys
from collections import OrderedDict, deque
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any, NamedTuple
from uuid import UUID

import numpy as np
import pendulum
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, SecretStr, TypeAdapter

from kommuna.errors import SpecError
from kommuna.spec.plain import as_json
from kommuna.spec.step import StepSpec


class Colour(Enum):
    RED = "red"
    TWO = 2


class Level(IntEnum):
    LOW = 1


class Kind(StrEnum):
    A = "a"


class Point(NamedTuple):
    x: int
    y: float


@dataclasses.dataclass
class Box:
    size: int
    tags: set[str] = dataclasses.field(default_factory=set)


class Inner(BaseModel):
    day: date
    tags: frozenset[int] = frozenset()


class Options(BaseModel):
    model_config = ConfigDict(extra="allow")
    inner: Inner = Field(alias="theInner")
    share: Decimal = Decimal("0.10")
    address: ipaddress.IPv4Address = ipaddress.IPv4Address("127.0.0.1")
    anything: Any = None


class Secret(BaseModel):
    word: SecretStr


OPTIONS = Options(theInner=Inner(day=date(2026, 1, 2), tags=frozenset({2, 1})), anything=date(2026, 1, 3), more=(1, 2))


def spec(value: Any) -> StepSpec:
    return StepSpec(function="m:f", team="support", store={"url": "file:///x"}, params={"p": value})


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (None, None),
        (True, True),
        (2**70, 2**70),
        (-0.0, -0.0),
        (1e-7, 1e-7),
        (1e22, 1e22),
        ("a\x85b\u2028c\0", "a\x85b\u2028c\0"),
        (date(2026, 1, 2), "2026-01-02"),
        (datetime(2026, 1, 2, 3, 4, 5, 6), "2026-01-02T03:04:05.000006"),
        (datetime(2026, 1, 2, tzinfo=UTC), "2026-01-02T00:00:00+00:00"),
        (pendulum.datetime(2026, 1, 2, tz="Europe/Berlin"), "2026-01-02T00:00:00+01:00"),
        (time(3, 4), "03:04:00"),
        (timedelta(days=1, microseconds=1), "P1DT0.000001S"),
        (pendulum.duration(hours=1), "PT1H"),
        (Decimal("1.10"), "1.10"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (Path("a/b"), "a/b"),
        (PurePosixPath("/a"), "/a"),
        (b"\xc3\xa9", "é"),
        (Colour.RED, "red"),
        (Colour.TWO, 2),
        (Level.LOW, 1),
        (Kind.A, "a"),
        ({"b", "a", "c"}, ["a", "b", "c"]),
        (frozenset({date(2026, 2, 1), date(2026, 1, 1)}), ["2026-01-01", "2026-02-01"]),
        ((1, (2,)), [1, [2]]),
        (range(3), [0, 1, 2]),
        (deque([1]), [1]),
        ({"x": 1}.keys(), ["x"]),
        (Point(1, 2.0), [1, 2.0]),
        (Box(1, {"b", "a"}), {"size": 1, "tags": ["a", "b"]}),
        (OrderedDict(b=1, a=2), {"b": 1, "a": 2}),
        (MappingProxyType({"a": 1}), {"a": 1}),
        ({1: "int", 1.5: "float", 2: "two", None: "null"}, {"1": "int", "1.5": "float", "2": "two", "null": "null"}),
        ({True: 1, date(2026, 1, 2): 2, Colour.RED: 3}, {"true": 1, "2026-01-02": 2, "red": 3}),
        (np.float64(0.1), 0.1),
        (np.float32(0.1), float(np.float32(0.1))),
        (np.int64(3), 3),
        (np.bool_(True), True),
        (np.str_("x"), "x"),
        (np.datetime64("2026-01-02T03:04:05.000006000"), "2026-01-02T03:04:05.000006"),
        (np.timedelta64(1, "h"), "PT1H"),
        (ipaddress.IPv4Address("10.0.0.1"), "10.0.0.1"),
        (
            OPTIONS,
            {
                "theInner": {"day": "2026-01-02", "tags": [1, 2]},
                "share": "0.10",
                "address": "127.0.0.1",
                "anything": "2026-01-03",
                "more": [1, 2],
            },
        ),
    ],
)
def test_a_parameter_is_json_from_the_start_and_the_same_when_it_is_read(value: Any, found: Any) -> None:
    made = spec(value)
    assert repr(made.params["p"]) == repr(found)
    assert repr(json.loads(made.model_dump_json())["params"]["p"]) == repr(found)
    assert repr(StepSpec.model_validate_json(made.model_dump_json()).params["p"]) == repr(found)


@pytest.mark.parametrize(
    ("value", "what"),
    [
        (float("nan"), "parameter 'p' of step m:f is nan, which JSON does not have"),
        ({"a": [1, float("-inf")]}, "parameter 'p.a[1]' of step m:f is -inf, which JSON does not have"),
        (np.float32("nan"), "parameter 'p' of step m:f is nan, which JSON does not have"),
        (Decimal("NaN"), "parameter 'p' of step m:f is NaN, which JSON does not have"),
        ("a\ud83d", r"parameter 'p' of step m:f is the text 'a\ud83d', which is not Unicode"),
        ({"\ud83d": 1}, r"parameter 'a key of p' of step m:f is the text '\ud83d', which is not Unicode"),
        (b"\xff", r"parameter 'p' of step m:f is b'\xff', which is not UTF-8"),
        ([10**4300], "parameter 'p[0]' of step m:f is a whole number of more than 4200 digits"),
        ({1: "a", "1": "b"}, "parameter 'p' of step m:f has two keys that JSON writes as '1'"),
        ({(1, 2): "a"}, "parameter 'p' of step m:f has the key (1, 2), a tuple"),
        (spec, "parameter 'p' of step m:f is a function, <function spec at"),
        ((i for i in range(3)), "parameter 'p' of step m:f is a generator"),
        (np.array([1]), "parameter 'p' of step m:f is a ndarray, array([1]), which JSON cannot hold"),
        (np.longdouble(1), "parameter 'p' of step m:f is a longdouble, 1.0, which JSON cannot hold"),
        (np.datetime64("NaT"), "parameter 'p' of step m:f is NaT, which JSON cannot hold"),
        (np.datetime64(1, "ns"), "which JSON cannot hold"),
        (Secret(word="x"), "parameter 'p.word' of step m:f is a SecretStr"),
        (datetime(2026, 1, 2, tzinfo=timezone(timedelta(seconds=8001))), "which is not read back as the same datetime"),
    ],
)  # fmt: skip
def test_what_json_cannot_hold_is_refused_by_name(value: Any, what: str) -> None:
    with pytest.raises(SpecError) as caught:
        spec(value)
    assert what in caught.value.what
    assert caught.value.fix
    caught.value.what.encode()


def test_what_holds_itself_is_refused() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(SpecError, match="nested more than 50 deep, or holds itself"):
        spec(loop)


def test_left_out_and_null_are_two_things() -> None:
    assert spec(None).params == {"p": None}
    assert "params" in json.loads(spec(None).model_dump_json())
    assert json.loads(spec(None).model_dump_json())["params"] == {"p": None}


def test_a_sets_order_is_the_same_in_every_process() -> None:
    code = "from kommuna.spec.plain import as_json; print(as_json({'x': {'a', 'b', 'c', 'd', None, 1, 2.5}}, 'x'))"
    outs = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(outs) == 1


KINDS: list[tuple[Any, Any]] = [
    (st.dates(), date),
    (st.datetimes(timezones=st.none() | st.just(UTC) | st.builds(lambda m: timezone(timedelta(minutes=m)), st.integers(-1000, 1000))), datetime),
    (st.times(), time),
    (st.timedeltas(), timedelta),
    (st.decimals(allow_nan=False, allow_infinity=False), Decimal),
    (st.uuids(), UUID),
    (st.floats(allow_nan=False, allow_infinity=False), float),
    (st.integers(), int),
    (st.text(), str),
    (st.booleans(), bool),
    (st.frozensets(st.integers()), frozenset[int]),
    (st.tuples(st.dates(), st.integers()), tuple[date, int]),
    (st.dictionaries(st.integers(), st.dates()), dict[int, date]),
    (st.dictionaries(st.floats(allow_nan=False, allow_infinity=False), st.lists(st.none() | st.booleans())), dict[float, list[bool | None]]),
    (st.text().map(lambda text: text.encode()), bytes),
]  # fmt: skip


@given(st.data())
def test_the_declared_type_reads_the_same_value_from_json(data: st.DataObject) -> None:
    made, kind = data.draw(st.sampled_from(KINDS))
    value = data.draw(made)
    read = TypeAdapter(kind).validate_python(json.loads(json.dumps(as_json(value, "p"))))
    assert read == value
    assert type(read) is type(value)
