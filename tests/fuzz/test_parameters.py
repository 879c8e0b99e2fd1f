"""Parameters of the shared steps: a value of any JSON type means the same on every path to the step, or is refused."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import polars as pl
from hypothesis import strategies as st
from tests.fuzz.campaign import attempt, fuzzed
from tests.fuzz.typed_texts import DAYS, NUMBERS, TEXTS

from kommuna.airflow.operators import shared_operators
from kommuna.runtime.binding import find_step
from kommuna.spec.gate import EVALUATION_METRICS, Gate
from kommuna.spec.step import StepSpec
from kommuna.steps.etl.asof import asof_join
from kommuna.steps.etl.clean import clean
from kommuna.steps.etl.mask import mask_pii
from kommuna.steps.etl.prepare import prepare_messages
from kommuna.store.parameters import canonical_params, cast_rendered, parameter_types, refusal

STEPS = sorted(operator.step for operator in shared_operators())
SIGNATURES = {name: find_step(name) for name in STEPS}
TYPES = {name: parameter_types(name) for name in STEPS}
PARAMETERS = [(step, name) for step, signature in SIGNATURES.items() for name in signature.params]
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 100), st.integers(-(2**70), 2**70), st.floats(), st.floats(0, 1), NUMBERS,
    DAYS, TEXTS, st.text(max_size=5),
    st.sampled_from(["id", "text", "RU", "auto", "kommuna", "f1_macro >= 0.7", "{{ params.x }}", "True", "None", "1,2",
                     "[1]", '["a"]', "{}", "null", "backward", "tfidf", "2h", "\ud83d", "a\u2028b", 1e22, 1e-7, 10**400]),
)  # fmt: skip
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["columns", "required", "id", "n", ""]) | st.text(max_size=3), inner, max_size=3
        )
    ),
    max_leaves=4,
)


@fuzzed(examples=250, which=st.sampled_from(PARAMETERS), value=VALUES)
def test_a_parameter_is_the_same_on_every_path_or_refused(folder: Path, which: tuple[str, str], value: Any) -> None:
    step, name = which
    signature, wanted = SIGNATURES[step], TYPES[step].get(name)
    bound, error = attempt(lambda: signature.check_params({name: value}))
    spec, not_plain = attempt(
        lambda: StepSpec.read(
            {"function": step, "team": "support", "store": {"url": "file:///x"}, "params": {name: value}}
        )
    )
    if not_plain is not None:
        return
    handed = json.loads(spec.model_dump_json())["params"]
    again, refused = attempt(lambda: signature.check_params(handed))
    assert (error is None) == (refused is None), (error, refused)
    assert repr(again) == repr(bound)
    if wanted is None:
        return
    keyed = canonical_params(step, handed, bundle=None)[name]
    assert (
        keyed == {"$given": handed[name]} if error else keyed == canonical_params(step, spec.params, bundle=None)[name]
    )
    rendered = cast_rendered(value, wanted)
    json.dumps(rendered)
    _, refused = attempt(lambda: signature.check_params({name: rendered}))
    assert bool(refusal(value, wanted)) == (refused is not None), (refusal(value, wanted), refused)


NAMED = st.sampled_from([*EVALUATION_METRICS[:6], "champion.f1_macro"])
SIDES = st.recursive(
    st.one_of(NAMED, st.sampled_from(["0.7", "1e400", "-1", "0", "0x10", "1_0", "1j", "True", "'x'", "é", "f()", "9" * 400])),
    lambda inner: st.tuples(inner, st.sampled_from(["+", "-", "*", "/", "**"]), inner).map(lambda p: f"({' '.join(p)})"),
    max_leaves=3,
)  # fmt: skip
GATES = st.recursive(
    st.tuples(SIDES, st.sampled_from([">=", ">", "<", "==", "!=", "is"]), SIDES).map(" ".join),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["and", "or", "\n or"]), inner).map(lambda p: f"({' '.join(p)})"),
        inner.map(lambda gate: f"not {gate}"),
        st.tuples(inner, st.sampled_from(["", "\0", " if x else y", ")", "("])).map("".join),
    ),
    max_leaves=3,
)


@fuzzed(examples=100, text=GATES, figures=st.dictionaries(NAMED, st.floats(), min_size=5))
def test_a_gate_is_evaluated_or_refused(folder: Path, text: str, figures: dict[str, float]) -> None:
    gate, error = attempt(lambda: Gate(text))
    if error is None:
        verdict, _ = attempt(lambda: gate.judge(figures))
        if verdict is not None and any(figures.get(name) != figures.get(name) for name in gate.names):
            assert not verdict.holds


TABLE = st.lists(
    st.tuples(st.one_of(st.none(), st.sampled_from(["a", "b", "c", "d"])), st.one_of(st.none(), TEXTS, st.sampled_from(["Иван 4111 1111 1111 1111", "+7 916 123-45-67", " ", "a@b.ru"])), st.one_of(st.none(), st.floats(), st.integers(-3, 3).map(float))),
    min_size=1, max_size=6,
)  # fmt: skip
WORD = st.one_of(st.sampled_from(["id", "text", "n"]), st.sampled_from(["id", "text", "n"]), TEXTS)


def frame(rows: list[Any]) -> pl.LazyFrame:
    return pl.LazyFrame(rows, schema={"id": pl.String, "text": pl.String, "n": pl.Float64}, orient="row")


@fuzzed(
    examples=100,
    rows=TABLE,
    key=st.one_of(st.just("id"), WORD),
    text=st.one_of(st.just("text"), WORD),
    chars=st.integers(-1, 20),
    names=st.lists(TEXTS, max_size=3),
    region=st.sampled_from(["RU", "RU", "US", "XX", ""]),
)
def test_input_rows_are_kept_or_counted(
    folder: Path, rows: list[Any], key: str, text: str, chars: int, names: list[str], region: str
) -> None:
    cleaned, error = attempt(lambda: clean(frame(rows), key=key, text=text, max_chars=chars))
    if error is None:
        out = cleaned.table.collect()
        metrics = cleaned.metrics
        assert (
            metrics["rows_in"]
            == len(rows)
            == metrics["rows"] + metrics["dropped_empty"] + metrics["dropped_duplicates"]
        )
        assert len(out) == metrics["rows"]
        assert out["id"].is_in([row[0] for row in rows]).all()
    if text == "id":
        return
    masked, error = attempt(lambda: mask_pii(frame(rows), text=text, names=names, region=region))
    if error is None:
        out = masked.table.collect()
        assert out["id"].to_list() == [row[0] for row in rows]
        changed = sum(a != b for a, b in zip(out[text].to_list(), frame(rows).collect()[text].to_list(), strict=True))
        assert changed <= masked.metrics["masked_rows"]


@fuzzed(
    examples=60,
    left=TABLE,
    right=TABLE,
    on=st.one_of(st.just("n"), st.just("n"), WORD),
    by=st.one_of(st.just(["id"]), st.just([]), st.lists(WORD, max_size=2)),
    tolerance=st.one_of(st.none(), st.none(), TEXTS, NUMBERS, st.sampled_from(["2h", "1", "-1", "2", "0.5"])),
    strategy=st.sampled_from(["backward", "forward", "nearest", "x"]),
    suffix=st.one_of(st.just("_right"), st.just("_2"), TEXTS),
)
def test_an_asof_join_keeps_every_left_row_and_joins_the_nearest(
    folder: Path, left: list[Any], right: list[Any], on: str, by: list[str], tolerance: Any, strategy: Any, suffix: str
) -> None:
    joined, error = attempt(
        lambda: asof_join(
            frame(left), frame(right), on=on, by=by, tolerance=tolerance, strategy=strategy, suffix=suffix
        )
    )
    if error is not None:
        return
    out = joined.table.collect()
    assert out["id"].to_list() == [row[0] for row in left]
    assert joined.metrics["matched"] + joined.metrics["unmatched"] == joined.metrics["rows"] == len(left)
    if on == "n" and by in ([], ["id"]) and strategy == "backward" and tolerance is None:
        for row, met in zip(left, out[f"text{suffix}"], strict=True):
            before = [r for r in right if None not in (r[2], row[2]) and _finite(r[2], row[2]) and r[2] <= row[2]]
            before = [r for r in before if not by or (r[0] is not None and r[0] == row[0])]
            assert met == (max(enumerate(before), key=lambda p: (p[1][2], p[0]))[1][1] if before else None)


def _finite(*numbers: float) -> bool:
    return all(map(math.isfinite, numbers))


@fuzzed(examples=40, rows=TABLE, since=st.one_of(st.none(), st.dates()))
def test_prepared_messages_equal_those_of_the_file(folder: Path, rows: list[Any], since: Any) -> None:
    path = folder / "m.ndjson"
    path.write_text("".join(json.dumps({"id": i, "text": t, "created_at": "2026-09-01"}) + "\n" for i, t, _ in rows))
    schema: Any = {"columns": {"id": "String", "text": "String", "created_at": "Datetime"}}
    prepared, error = attempt(lambda: prepare_messages(path, table_schema=schema, since=since))
    if error is None:
        metrics = prepared.metrics
        assert metrics["rows_read"] == len(rows)
        assert metrics["rows_in"] == metrics["rows"] + metrics["dropped_empty"] + metrics["dropped_duplicates"]
        assert len(prepared.table.collect()) == metrics["rows"]
        assert since is not None or metrics["rows_in"] == len(rows)
