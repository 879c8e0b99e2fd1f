"""The step's own process: imports the function, reads inputs, calls it, writes outputs to the work folder.

It does not access the store or the manifest: the supervisor fetches inputs before and stores outputs after.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import sys
import traceback
from pathlib import Path
from typing import Any

from pydantic import Field

from kommuna.errors import (
    EXIT_DONE,
    EXIT_FAULT,
    DataError,
    KommunaError,
    LimitExceeded,
    MissingColumn,
    Outage,
    StepNotFound,
    as_raised,
)
from kommuna.runtime import codecs
from kommuna.runtime.binding import Argument, find_step
from kommuna.runtime.codecs import Written
from kommuna.runtime.recording import ReportedUses
from kommuna.runtime.second_lookup import SecondLookup
from kommuna.runtime.self_report import SelfReport
from kommuna.spec.artifacts import ComputedWithTables
from kommuna.spec.base import Spec
from kommuna.spec.failure import Failure
from kommuna.spec.plain import not_plain, readable
from kommuna.spec.step import Services, StepContext, StepSpec
from kommuna.store.faults import store_error
from kommuna.store.inputs import LocalInput, LocalTree


class ChildReport(Spec):
    """The report of the step's process to the supervisor, sent as JSON."""

    outputs: dict[str, Written] = Field(default_factory=dict)
    metrics: dict[str, float] = Field(default_factory=dict)
    links: dict[str, str] = Field(default_factory=dict)
    failure: Failure | None = None
    reported: ReportedUses = Field(default_factory=ReportedUses)

    @property
    def exit_code(self) -> int:
        """The exit code of the step's process."""
        return EXIT_DONE if self.failure is None else self.failure.error().exit_code


def run(
    spec: StepSpec,
    inputs: dict[str, LocalTree],
    context: StepContext,
    folder: Path,
    report_to: int,
    second_lookup: SecondLookup | None = None,
) -> int:
    """Runs the step, writes its report to a file descriptor in memory (the disk may be full), returns the exit code.

    Args:
        spec: the step.
        inputs: the checked local files, by the input's name.
        context: the run's context, for steps that take one.
        folder: the work folder, which outputs are written to.
        report_to: the file descriptor; it is closed.
        second_lookup: looks for an earlier result once the parameters are coerced; None calls the step in any case.
    """
    process = os.getpid()
    try:
        report = _call(spec, inputs, context, folder, second_lookup)
    except BaseException as error:
        report = _failed(error, spec)
    if os.getpid() != process:  # a process that the step forked also returned from it
        return EXIT_FAULT
    with os.fdopen(report_to, "w", encoding="utf-8") as file:
        file.write(report.model_dump_json())
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):  # the step may have closed or replaced it, or its disk is full
            stream.flush()
    return report.exit_code


def _failed(error: BaseException, spec: StepSpec) -> ChildReport:
    """Creates the report of a step that raised an error."""
    known = as_kommuna_error(error, spec.store.url)
    if known is None or (known.exit_code == EXIT_FAULT and not isinstance(known, Outage)):
        with contextlib.suppress(Exception):
            traceback.print_exception(error)
    known = known or KommunaError(f"{type(error).__name__}: {_text(error)}")
    return ChildReport(failure=Failure.of(known))


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as fault:
        return f"(its own text fails with {type(fault).__name__})"


def _call(
    spec: StepSpec, inputs: dict[str, LocalTree], context: StepContext, folder: Path, second_lookup: SecondLookup | None
) -> ChildReport:
    self_report = SelfReport(folder)
    self_report.install(spec.bundle)
    signature = find_step(spec.function, bundle=Path(spec.bundle) if spec.bundle else None)
    signature.check_names(spec.inputs, spec.params)
    services = _services(spec, context.key)
    params = signature.check_params(spec.params)
    if second_lookup is not None:
        second_lookup.ask(params)
    arguments: dict[str, Any] = {
        **params,
        **signature.inject(services, self_report.context(context)),
        **{name: _read(signature.inputs[name], tree) for name, tree in inputs.items()},
    }
    result = signature.function(**arguments)
    fields = result._asdict() if hasattr(result, "_asdict") else {"result": result}
    metrics = fields.pop("metrics", {})
    links = {readable(str(name)): readable(str(url)) for name, url in dict(fields.pop("links", {})).items()}
    values = {name: value for name, value in fields.items() if value is not None}
    outputs = codecs.write_all(values, folder, metrics if isinstance(metrics, ComputedWithTables) else None)
    reported = self_report.reported_uses(spec, signature, arguments)
    return ChildReport(outputs=outputs, metrics=_metrics(spec.function, metrics), links=links, reported=reported)


def _services(spec: StepSpec, work: str) -> Services:
    """Returns the step's services; their clients know the run, and the folder that the team's runs share."""
    run = f"{spec.dag_id}/{spec.run_id}" if spec.run_id else ""
    return spec.services.model_copy(update={"shared": spec.store.shared(spec.team), "work": work, "run": run})


def _read(argument: Argument, tree: LocalTree) -> Any:
    def one(item: LocalInput, name: str, annotation: Any) -> Any:
        if item.path is None:
            return None
        return codecs.read(name, Path(item.path), annotation, source=item.source, made=item.made)

    if isinstance(tree, LocalInput):
        return one(tree, argument.name, argument.annotation)
    annotation = codecs.item_annotation(argument.annotation)
    if isinstance(tree, dict):
        return {name: one(item, f"{argument.name}.{name}", annotation) for name, item in tree.items()}
    return [one(item, f"{argument.name}[{i}]", annotation) for i, item in enumerate(tree)]


def _metrics(function: str, given: Any) -> dict[str, float]:
    try:
        metrics = {str(name): float(value) for name, value in dict(given).items()}
    except (TypeError, ValueError):
        raise StepNotFound(
            f"the metrics of step {function} are not numbers by name: {ascii(given)[:100]}",
            fix="return `metrics: dict[str, float]`",
        ) from None
    if fault := not_plain(metrics, "metrics"):
        raise DataError(
            f"a metric of step {function} is not a number: {readable(fault)}",
            fix="leave a metric out where it has no value, such as a mean of no rows",
        )
    return metrics


def as_kommuna_error(error: BaseException, store_url: str) -> KommunaError | None:
    """Converts a library's error to one of Kommuna's; None where there is no equivalent.

    Args:
        error: what the step raised.
        store_url: the address of the artifact store, where an error of the disk is reported.
    """
    if isinstance(error, KommunaError):
        return as_raised(error)
    if isinstance(error, MemoryError):
        return LimitExceeded("the step ran out of memory", fix="give it more by `resources`, or stream the table")
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
        return store_error(error, store_url)
    if isinstance(error, UnicodeEncodeError) and "surrogates" in error.reason:
        return DataError(
            f"a text is not Unicode: {error.object[max(0, error.start - 20) : error.end + 20]!a}",
            fix="decode the bytes that it came from with their own encoding, or with errors='replace'",
        )
    if str(type(error).__module__).startswith("polars"):
        text = str(error)
        first = text.strip().splitlines()[0] if text.strip() else type(error).__name__
        if "os error 28" in text or "No space left" in text:
            return store_error(OSError(errno.ENOSPC, text), store_url)
        if type(error).__name__ == "ColumnNotFoundError":
            valid = re.search(r"valid columns: (\[[^\]]*\])", text)
            quoted = re.search(r"[\"'`]([^\"'`]+)[\"'`]", first)
            column = quoted[1] if quoted else first.partition(";")[0]
            return MissingColumn(
                f"no column '{column}'", fix=f"the table has {valid[1]}" if valid else "check the name"
            )
        if type(error).__name__ in (
            "SchemaError",
            "InvalidOperationError",
            "DuplicateError",
            "SQLSyntaxError",
            "SQLInterfaceError",
        ):
            return DataError(f"{type(error).__name__}: {first}")
        if "'Object' datatype" in first:
            return DataError(
                "a column holds Python objects, which no Parquet file can",
                fix="build the table with a schema of Polars types: a list for a set, a Struct for a dict",
            )
    return None
