"""Task logs go into the store and come back from it."""

from pathlib import Path

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
    from kommuna.airflow.task_logs import REMOTE_TASK_LOG

    local = store / "logs" / LOG
    local.parent.mkdir(parents=True)
    local.write_text('{"event": "step.done"}\n')
    REMOTE_TASK_LOG.upload(LOG)
    local.unlink()
    places, texts = REMOTE_TASK_LOG.read(LOG, ti=None)  # type: ignore[arg-type]
    assert texts == ['{"event": "step.done"}\n']
    assert places == [f"file://{store}/store/{LOG}"]


def test_a_log_that_is_not_there_yet_is_none(store: Path) -> None:
    from kommuna.airflow.task_logs import REMOTE_TASK_LOG

    assert REMOTE_TASK_LOG.read(LOG, ti=None) == ([], None)  # type: ignore[arg-type]
    REMOTE_TASK_LOG.upload(LOG)  # nothing to upload is no error
