"""Converts values to files of artifacts and back, by their types."""

from __future__ import annotations

import json
import sys
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, TypeAdapter, ValidationError

from kommuna.errors import DataError, KommunaError, SpecError, StepNotFound
from kommuna.spec.artifacts import ComputedWithTables, Report, Saved
from kommuna.spec.base import Spec
from kommuna.spec.plain import not_json_scalar, not_plain, readable
from kommuna.spec.words import in_words, place_of_problem, problems
from kommuna.spec.yaml_text import load_yaml
from kommuna.store.manifest import Kind

if TYPE_CHECKING:
    import polars as pl

_YAML = (".yaml", ".yml")


class Written(Spec):
    """A file that the step's process wrote, for the supervisor to put into the store."""

    path: str
    kind: Kind
    suffix: str
    rows: int | None = None
    plan: str = ""


def write(value: Any, stem: Path) -> Written:
    """Writes one output beside `stem`; lazy tables are streamed.

    Args:
        value: the output.
        stem: the path without an extension, which its type adds.

    Raises:
        StepNotFound: values of this type cannot be stored.
    """
    polars = sys.modules.get("polars")  # a step that has made a table has loaded it
    if polars is not None and isinstance(value, polars.LazyFrame | polars.DataFrame):
        return _write_table(value, stem)
    if isinstance(value, Report):
        path = stem.with_suffix(".html")
        path.write_text(value.html, encoding="utf-8")
        return Written(path=str(path), kind="report", suffix=".html")
    if isinstance(value, BaseModel | dict | list):
        path = stem.with_suffix(".json")
        path.write_bytes(_json(value, stem.name))
        return Written(path=str(path), kind="json", suffix=".json")
    if isinstance(value, Saved):
        suffix: str = getattr(value, "suffix", ".model")
        path = stem.with_suffix(suffix)
        value.save(path)
        return Written(path=str(path), kind="model", suffix=suffix)
    raise StepNotFound(
        f"output '{stem.name}' is a {type(value).__name__}, which cannot be stored",
        fix="return a polars frame, a Report, a pydantic model, a dict or list, or a class with save and load",
    )


def write_all(values: Mapping[str, Any], folder: Path, metrics: ComputedWithTables | None = None) -> dict[str, Written]:
    """Writes a step's outputs into a folder, by their names.

    Args:
        values: the outputs.
        folder: where to write them.
        metrics: metrics that are computed in the same pass as the lazy tables; None: the tables are written in turn.

    Raises:
        StepNotFound: values of a type cannot be stored.
    """
    if metrics is None:
        return {name: write(value, folder / name) for name, value in values.items()}
    import polars as pl

    lazy = {name: value for name, value in values.items() if isinstance(value, pl.LazyFrame)}
    metrics.compute_with([value.sink_parquet(_table_path(folder / name), lazy=True) for name, value in lazy.items()])
    return {
        name: _written_table(folder / name, value) if name in lazy else write(value, folder / name)
        for name, value in values.items()
    }


def _write_table(value: pl.LazyFrame | pl.DataFrame, stem: Path) -> Written:
    import polars as pl

    if isinstance(value, pl.LazyFrame):
        value.sink_parquet(_table_path(stem))
    else:
        value.write_parquet(_table_path(stem))
    return _written_table(stem, value)


def _written_table(stem: Path, value: pl.LazyFrame | pl.DataFrame) -> Written:
    """Describes a table that was written beside `stem`."""
    import polars as pl

    path = _table_path(stem)
    plan = value.explain(optimized=True) if isinstance(value, pl.LazyFrame) else ""
    rows = pl.scan_parquet(path).select(pl.len()).collect().item()
    return Written(path=str(path), kind="table", suffix=".parquet", rows=rows, plan=plan)


def _table_path(stem: Path) -> Path:
    return stem.with_suffix(".parquet")


def _json(value: Any, name: str) -> bytes:
    """Converts a model, dict or list to JSON. Dicts keep their order.

    Raises:
        DataError: JSON cannot hold a part of the value. The message names the part.
    """
    try:
        if isinstance(value, BaseModel):  # its own JSON would have null for NaN
            fault = not_json_scalar(value.model_dump(mode="python"), name)
            raw = value.model_dump(mode="json")
        else:
            fault, raw = not_plain(value, name), value
        if fault is None:
            return json.dumps(raw, ensure_ascii=False, indent=1, allow_nan=False).encode()
    except RecursionError:
        fault = f"{name} is nested too deeply"
    except (TypeError, ValueError) as error:
        fault = f"{name}: {error}"
    raise DataError(
        f"output '{name}' cannot be stored as JSON: {readable(fault)}",
        fix="return numbers (None where there is none), texts, dicts and lists",
    )


def read(name: str, path: Path, annotation: Any, *, source: str, made: bool = False) -> Any:
    """Reads the file of one input as a value of the annotated type.

    Args:
        name: the input's name, for messages.
        path: a local file whose digest was checked.
        annotation: the argument's type; `X | None` is read as X.
        source: the file's name or URL as the user wrote it, for messages.
        made: whether a step of the team made the file. Loading a model may run code that its file contains, so it is
            loaded from nowhere else.

    Raises:
        DataError: the file is not of the annotated type, or is a model that no step made.
        SpecError: a document does not fit its model.
    """
    wanted = _without_none(annotation)
    if wanted is Path:
        return path
    if _is_table(wanted):
        return _read_table(name, path, wanted, source)
    if wanted is Report:
        return Report(path.read_text(encoding="utf-8"))
    if _is_spec(wanted):
        return wanted.from_yaml(path)
    if _is_saved(wanted):
        if not made:
            raise DataError(
                f"input '{name}': {source} is not a {wanted.__name__} that a step made, and is not opened",
                where=source,
                fix="give it the output of a step, or a registered model: Model('NAME')",
            )
        return _loaded(name, path, wanted, source)
    try:
        if path.suffix.lower() in _YAML:
            return TypeAdapter(wanted).validate_python(load_yaml(path.read_text(encoding="utf-8"), path))
        return TypeAdapter(wanted).validate_json(path.read_bytes())
    except ValidationError as error:
        first = problems(error)[0]
        problem = "it is not JSON" if first["type"] == "json_invalid" else in_words(first)
        place = place_of_problem((name, *first["loc"]))
        raise SpecError(f"input '{place}' does not fit: {problem}", where=source) from None
    except UnicodeDecodeError as error:
        raise SpecError(
            f"input '{name}' does not fit: it is not UTF-8 text: {error.reason}",
            where=source,
            fix="save the file as UTF-8",
        ) from None


def reads_document(annotation: Any) -> bool:
    """Whether an input of this type is parsed as a document, so that comments and layout do not matter."""
    wanted = _without_none(annotation)
    if _is_spec(wanted):
        return True
    if wanted is Path or wanted is Report or _is_table(wanted) or _is_saved(wanted):
        return False
    return wanted is Any or reads_document(item_annotation(wanted))  # each input of a dict or list is read separately


def _is_spec(wanted: Any) -> bool:
    return isinstance(wanted, type) and issubclass(wanted, Spec)


def _is_saved(wanted: Any) -> bool:
    return isinstance(wanted, type) and hasattr(wanted, "load") and hasattr(wanted, "save")


def _loaded(name: str, path: Path, wanted: Any, source: str) -> Any:
    try:
        return wanted.load(path)
    except (KommunaError, OSError, MemoryError):
        raise
    except Exception as error:  # whatever a foreign or broken file makes pickle and its like raise
        raise DataError(
            f"input '{name}': {source} cannot be read as {wanted.__name__}: {type(error).__name__}: {error}",
            where=source,
            fix="pass the output of the step that wrote it; if its libraries have changed since, run that step again",
        ) from error


def item_annotation(annotation: Any) -> Any:
    """Returns the item type of a `dict[str, X]` or `list[X]` input."""
    arguments = typing.get_args(_without_none(annotation))
    return arguments[-1] if arguments else Any


def _without_none(annotation: Any) -> Any:
    if typing.get_origin(annotation) is typing.Annotated:
        return _without_none(typing.get_args(annotation)[0])
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        kept = [part for part in typing.get_args(annotation) if part is not type(None)]
        return _without_none(kept[0]) if len(kept) == 1 else annotation
    return annotation


def _is_table(wanted: Any) -> bool:
    polars = sys.modules.get("polars")  # an annotation with its types has loaded it
    return polars is not None and wanted in (polars.LazyFrame, polars.DataFrame)


def _read_table(name: str, path: Path, wanted: Any, source: str) -> Any:
    import polars as pl

    if path.suffix != ".parquet":
        raise DataError(
            f"input '{name}' wants a table, but {source} is not a Parquet file",
            where=source,
            fix="read it by a read_table or prepare_messages step first, which checks its schema",
        )
    return pl.scan_parquet(path) if wanted is pl.LazyFrame else pl.read_parquet(path)
