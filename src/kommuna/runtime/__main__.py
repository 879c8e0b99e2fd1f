"""`python -m kommuna.runtime [--spec FILE] [--result FILE]`: runs the step that the spec describes."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import logging
import os
import signal
import sys
from pathlib import Path
from typing import Any, NoReturn

import structlog

from kommuna.errors import KommunaError
from kommuna.processes import end_with_parent
from kommuna.runtime.process import in_child, in_this_process
from kommuna.runtime.supervise import run_step
from kommuna.spec.caching import INTERPRETER
from kommuna.spec.json_text import load_json
from kommuna.spec.step import StepResult, StepSpec
from kommuna.store.inputs import FoundFile
from kommuna.store.lookup import bounded


def main() -> int:
    """Runs one step and returns its exit code. Writes the result to `--result` as JSON, errors to standard error."""
    parser = argparse.ArgumentParser(prog="python -m kommuna.runtime", description=__doc__)
    parser.add_argument("--spec", type=Path, help="the StepSpec as a JSON or YAML file; standard input if absent")
    parser.add_argument("--spec-json", help="the StepSpec itself, as JSON")
    parser.add_argument(
        "--known", type=Path, help="files among the inputs that the task has found and read, as JSON: FoundFile"
    )
    parser.add_argument("--result", type=Path, help="where the StepResult is written as JSON")
    parser.add_argument(
        "--die-with-parent", action="store_true", help="stop when the process that started this one ends"
    )
    parser.add_argument(
        "--here", action="store_true", help="run it in this very process, where a debugger works, without its limits"
    )
    options = parser.parse_args()
    if any(os.environ.get(name) != value for name, value in INTERPRETER.items()):
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], os.environ | INTERPRETER)  # restart
    _configure_logs()
    if options.die_with_parent:
        _die_with_parent()
    try:
        spec = _spec(options)
        known = [FoundFile.read(file) for file in json.loads(options.known.read_bytes())] if options.known else []
        result = run_step(spec, in_this_process if options.here else in_child, known=known)
    except KommunaError as error:
        result = StepResult.failed(error)
    if result.message:
        print(result.message, file=sys.stderr, flush=True)  # noqa: T201
    if options.result:
        partial = options.result.with_name(f".{options.result.name}.{os.getpid()}")
        text = bounded(result).model_dump_json()
        # A pod's termination log is a mount: it can be written, not replaced.
        if options.result.exists() and (not options.result.is_file() or os.path.ismount(options.result)):
            options.result.write_text(text)
        else:
            partial.write_text(text)
            partial.replace(options.result)
    return result.exit_code


def _spec(options: argparse.Namespace) -> StepSpec:
    if options.spec:
        return StepSpec.from_yaml(options.spec)
    where = "--spec-json" if options.spec_json else "standard input"
    return StepSpec.read(load_json(options.spec_json or sys.stdin.read(), Path(where)), where=where)


def _die_with_parent() -> None:
    parent = os.getppid()
    if parent == 1:
        sys.exit(1)
    end_with_parent(parent, signal.SIGTERM)


class _LossyStream(io.TextIOWrapper):
    """A stream that drops text which cannot be written, so that a run does not fail because of its log."""

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            super().write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            super().flush()


def _lossy(stream: Any) -> Any:
    if not isinstance(stream, io.TextIOWrapper):
        return stream
    lines, through = stream.line_buffering, stream.write_through
    return _LossyStream(stream.buffer, stream.encoding, stream.errors, line_buffering=lines, write_through=through)


def _configure_logs() -> None:
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=True),
            structlog.processors.format_exc_info,
            structlog.dev.ConsoleRenderer(colors=False, pad_event_to=0, pad_level=False),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stdout),
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
    )


def _leave(code: int) -> NoReturn:
    """Ends the process at once: all is written, and the store's client takes a quarter of a second to shut down."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    os._exit(code)


if __name__ == "__main__":
    sys.stdout, sys.stderr = _lossy(sys.stdout), _lossy(sys.stderr)
    _leave(main())
