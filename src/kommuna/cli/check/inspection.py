"""The part of `kommuna check` that imports team code: `python -m kommuna.cli.check.inspection`.

Each file is imported in a fork of this process, which has Airflow loaded already; this process runs nothing of it.
"""

from __future__ import annotations

import importlib
import json
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from kommuna.cli.check.advice import explain, explain_end
from kommuna.cli.check.files import find_unread, sources
from kommuna.cli.check.finding import BundleFindings, Collector, FileReport
from kommuna.cli.check.judges.dags import DagJudge
from kommuna.cli.check.process.jobs import allow_judging, run
from kommuna.cli.check.process.limits import Limits
from kommuna.cli.check.process.loading import load
from kommuna.errors import KommunaError
from kommuna.processes import adopt_orphans, end_with_parent
from kommuna.spec.installation import Place, place_of

# Common imports of DAG files; each file's process finds them in memory, as in the platform's parser.
_WARM = (
    "airflow.providers.standard.operators.bash",
    "airflow.providers.standard.operators.empty",
    "airflow.providers.standard.operators.python",
    "airflow.providers.standard.operators.trigger_dagrun",
    "airflow.providers.standard.sensors.external_task",
    "airflow.serialization.serialized_objects",
    "airflow.timetables.trigger",
    "kommuna.airflow.dags.weak_supervision",
)
MAX_SLOW_FILES = 3  # after these the rest is not checked, since they mostly wait for the same thing


def inspect_files(folder: Path, limits: Limits) -> BundleFindings:
    """Checks every Python file of a bundle.

    Args:
        folder: the bundle.
        limits: the limits for the import of each file.
    """
    found = Collector(folder)
    place: Place | None = None
    try:
        place = place_of(folder / "x.py")
    except KommunaError as error:
        found.add(folder, 1, error.what, error.fix)
    find_unread(folder, found)
    files = sources(folder)
    dags: dict[str, Path] = {}
    steps, slow_files = 0, 0
    for number, (path, may_define_dag) in enumerate(files):
        if slow_files >= MAX_SLOW_FILES:
            what = f"{slow_files} files take too long: {len(files) - number} files were not checked"
            found.add(folder, 1, what, "fix those first")
            break
        report, too_slow = _inspect(path, place if may_define_dag else None, folder, limits)
        slow_files += too_slow
        found.take(report)
        steps += report.steps
        for dag_id, line in report.dags:
            if dag_id in dags:
                other = dags[dag_id].relative_to(folder)
                what = f"two DAGs have the id '{dag_id}': the other is in {other}"
                found.add(path, line, what, "give one another id; a DAG that is only imported is taken twice, too")
            dags.setdefault(dag_id, path)
    return BundleFindings(findings=found.findings, files=len(files), dags=len(dags), steps=steps)


def _inspect(path: Path, place: Place | None, folder: Path, limits: Limits) -> tuple[FileReport, bool]:
    """What a process of the file's own finds, and whether it took too long."""
    with tempfile.NamedTemporaryFile(prefix="kommuna-check-") as result:

        def work() -> None:
            report = _look(path, place, folder, limits)
            Path(result.name).write_text(report.model_dump_json(), encoding="utf-8")

        ended = run(work, limits)
        answer = Path(result.name).read_bytes()
    if answer and ended.code == 0:
        report = FileReport.model_validate_json(answer)
        return report, any("takes longer than" in finding.what for finding in report.findings)
    found = Collector(folder)
    found.add(path, *explain_end(ended, path.read_bytes(), limits))
    return FileReport(findings=found.findings), ended.reason == "time"


def _look(path: Path, place: Place | None, folder: Path, limits: Limits) -> FileReport:
    """Checks one file, in its own process."""
    found = Collector(folder)
    source = path.read_bytes()
    try:
        compile(source, str(path), "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = getattr(error, "lineno", None) or 1
        found.add(path, line, f"not valid Python: {getattr(error, 'msg', '') or error}", "fix the syntax")
        return FileReport(findings=found.findings)
    if place is None:
        return FileReport()
    os.chdir(folder)
    sys.path.append(str(folder))  # last, as in Airflow's own processes
    loaded = load(path, limits.seconds)
    if loaded.error is not None:
        found.add(path, *explain(loaded.error, path, folder, limits))
        return FileReport(findings=found.findings)
    allow_judging()
    judge = DagJudge(path, source.decode("utf-8", "replace"), loaded.lines, place, found)
    for dag in loaded.dags:
        judge.judge(dag)
    dags = tuple((dag.dag_id, judge.line(dag)) for dag in loaded.dags)
    return FileReport(findings=found.findings, dags=dags, steps=judge.steps)


def main() -> None:
    """Writes the findings of a bundle to a file. Ends with its parent process, and leaves no files or processes."""
    folder, result, limits, parent = sys.argv[1:]
    adopt_orphans()
    signal.signal(signal.SIGTERM, _end)
    try:
        end_with_parent(int(parent), signal.SIGTERM)
        for name in _WARM:
            importlib.import_module(name)
        found = inspect_files(Path(folder), Limits(**json.loads(limits)))
        Path(result).write_text(found.model_dump_json(), encoding="utf-8")
    except SystemExit:
        shutil.rmtree(Path(result).parent, ignore_errors=True)  # the parent may be gone
        raise


def _end(number: int, _frame: object) -> None:
    signal.signal(number, signal.SIG_IGN)  # each thread of the ending parent may send it
    sys.exit(128 + number)


if __name__ == "__main__":
    main()
