"""Task logs are written to the store and read from it."""

from functools import partial
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

LOG = "support/logs/dag_id=support__topics/attempt=1.log"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    platform = {"teams": {"support": {"bundle": "dags"}}, "store": (tmp_path / "store").as_uri()}
    (tmp_path / "kommuna.yaml").write_text(yaml.safe_dump(platform))
    monkeypatch.setenv("KOMMUNA_PLATFORM", str(tmp_path / "kommuna.yaml"))
    monkeypatch.setenv("AIRFLOW__LOGGING__BASE_LOG_FOLDER", str(tmp_path / "logs"))
    folder = tmp_path / "store" / "support" / "logs" / "dag_id=support__topics"
    folder.mkdir(parents=True)
    return tmp_path


def test_a_log_that_was_uploaded_is_read_from_the_store(store: Path) -> None:
    from kommuna.airflow.server.task_logs import REMOTE_TASK_LOG

    local = store / "logs" / LOG
    local.parent.mkdir(parents=True)
    local.write_text('{"event": "step.done"}\n')
    REMOTE_TASK_LOG.upload(LOG)
    local.unlink()
    places, texts = REMOTE_TASK_LOG.read(LOG, ti=None)  # type: ignore[arg-type]
    assert texts == ['{"event": "step.done"}\n']
    assert places == [f"file://{store}/store/{LOG}"]


def test_a_missing_log_is_None(store: Path) -> None:
    from kommuna.airflow.server.task_logs import REMOTE_TASK_LOG

    assert REMOTE_TASK_LOG.read(LOG, ti=None) == ([], None)  # type: ignore[arg-type]
    REMOTE_TASK_LOG.upload(LOG)  # nothing to upload is no error


def test_a_deferred_task_keeps_its_earlier_log_and_shows_its_triggers(store: Path) -> None:
    from kommuna.airflow.server.task_logs import REMOTE_TASK_LOG

    local = store / "logs" / LOG
    local.parent.mkdir(parents=True)
    local.write_text("deferred\n")
    REMOTE_TASK_LOG.upload(LOG)
    REMOTE_TASK_LOG.upload(LOG)
    local.with_name("attempt=1.log.trigger.7.log").write_text("waiting\n")
    REMOTE_TASK_LOG.upload(f"{LOG}.trigger.7.log")
    local.with_name("attempt=11.log").write_text("another\n")
    REMOTE_TASK_LOG.upload(LOG.replace("=1.log", "=11.log"))
    local.write_text("resumed\n")  # in a new pod
    REMOTE_TASK_LOG.upload(LOG)
    places, texts = REMOTE_TASK_LOG.read(LOG, ti=None)  # type: ignore[arg-type]
    assert texts == ["deferred\nresumed\n", "waiting\n"]
    assert [place.rpartition("/")[2] for place in places] == ["attempt=1.log", "attempt=1.log.trigger.7.log"]


def test_only_the_end_of_a_huge_log_is_read(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from kommuna.airflow.server import task_logs

    monkeypatch.setattr(task_logs, "SHOWN", 1000)
    lines = [f"line {number}" for number in range(100_000)]
    (store / "store" / LOG).write_text("\n".join(lines))
    for number in range(40):
        (store / "store" / f"{LOG}.trigger.{number:02}.log").write_text("x" * 2000)
    (store / "store" / f"{LOG}.trigger.99.log").touch()
    places, texts = task_logs.REMOTE_TASK_LOG.read(LOG, ti=None)  # type: ignore[arg-type]
    assert texts is not None
    assert len(places) == len(texts) == 16
    said, *rest = texts[0].splitlines()
    assert said == f"The log has 1,088,889 bytes; these are the last 62. All of it: file://{store}/store/{LOG}"
    assert rest == lines[-len(rest) :]
    assert sum(len(text.partition("\n")[2]) for text in texts) <= 1000
    assert texts[-1] == ""


def test_an_upload_waits_for_an_unreachable_store(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from kommuna.airflow.server import task_logs
    from kommuna.outages import RetryPolicy

    local = store / "logs" / LOG
    local.parent.mkdir(parents=True)
    local.write_text("done\n")
    policy = RetryPolicy(first=0.01, longest=0.01, total=0.1)
    monkeypatch.setattr(task_logs, "wait_out", partial(task_logs.wait_out, policy=policy))
    file_system, tries = task_logs.StoreLogs._file_system, iter([ConnectionRefusedError(), TimeoutError()])

    def away() -> tuple[object, str]:
        for error in tries:
            raise error
        return file_system()

    monkeypatch.setattr(task_logs.StoreLogs, "_beside", staticmethod(lambda fs, where: away() and []))
    task_logs.REMOTE_TASK_LOG.upload(LOG)
    assert (store / "store" / LOG).read_text() == "done\n"


def test_of_a_long_log_in_a_local_file_the_end_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from kommuna.airflow.server import local_logs

    assert local_logs.LOGGING_CONFIG["handlers"]["task"]["class"].endswith("local_logs.TailTaskHandler")
    monkeypatch.setattr(local_logs, "SHOWN", 1000)
    log = tmp_path / "attempt=1.log"
    log.write_text("".join(f"line {number}\n" for number in range(100_000)))
    log.with_name(log.name + ".trigger.7.log").write_text("waiting\n")
    log.with_name(log.name + ".passwd").symlink_to("/etc/passwd")
    handler = local_logs.TailTaskHandler(str(tmp_path))
    sources, streams = handler._read_from_local(log)
    assert [Path(name).name for name in sources] == ["attempt=1.log", "attempt=1.log.trigger.7.log"]
    long, short = (list(stream) for stream in streams)
    assert "these are the last 500" in long[0]
    assert (long[-1], sum(map(len, long[1:])) <= 500) == ("line 99999", True)
    assert short == ["waiting"]


@pytest.mark.parametrize("module", ["task_logs", "local_logs"])
def test_the_host_that_a_task_names_is_never_asked(
    module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow.utils.log import file_task_handler

    asked: list[str] = []
    monkeypatch.setattr(file_task_handler, "_fetch_logs_from_service", lambda url, path: asked.append(url))
    config = import_module(f"kommuna.airflow.server.{module}").LOGGING_CONFIG
    place, _, name = config["handlers"]["task"]["class"].rpartition(".")
    reader = getattr(import_module(place), name)(str(tmp_path))
    named = SimpleNamespace(hostname="169.254.169.254/x", triggerer_job=None)
    assert reader._read_from_logs_server(named, LOG) == ([], [])
    assert asked == []
    waits = SimpleNamespace(hostname="x", triggerer_job=SimpleNamespace(hostname="triggerer", id=1), task=None)
    reader._read_from_logs_server(waits, LOG)
    assert [url.partition("/log/")[0] for url in asked] == ["http://triggerer:8794"]
