"""`kommuna.load` gives the outputs of a step in a notebook, of the caller's team alone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from tests.recorded.training import NEW, linear_model

import kommuna
from kommuna.errors import KommunaError, TeamMistake
from kommuna.spec.installation import find_installation
from kommuna.store import Artifact, Manifest, Store

KEY, LATER = "ab" * 32, "cd" * 32


def written(team: str, key: str, outputs: dict[str, Artifact], *, day: int = 0) -> None:
    store = Store(find_installation(Path.cwd()).store(), team)
    store.write_manifest(
        Manifest(
            key=key, function="m:f", team=team, outputs=outputs, version="0", seconds=0, peak_memory_bytes=0,
            started=datetime(2026, 11, 1, tzinfo=UTC) + timedelta(days=day),
            dag_id=f"{team}__topics", run_id="manual__1/a", task_id="train",
        )
    )  # fmt: skip


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    (tmp_path / "kommuna.yaml").write_text("teams: {support: {bundle: a}, fraud: {bundle: b}}\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("KOMMUNA_TEAM", raising=False)
    return Store(find_installation(tmp_path).store(), "support")


@pytest.fixture
def outputs(store: Store, tmp_path: Path) -> dict[str, Artifact]:
    """One output of each kind."""
    pl.DataFrame({"id": [1, 2]}).write_parquet(tmp_path / "table")
    linear_model().save(tmp_path / "model")
    (tmp_path / "report").write_text("<html>Ещё</html>", encoding="utf-8")
    (tmp_path / "scores").write_text('{"rows": 7}')
    return {
        "table": store.put(tmp_path / "table", kind="table", suffix=".parquet", rows=2),
        "model": store.put(tmp_path / "model", kind="model", suffix=".tagger"),
        "report": store.put(tmp_path / "report", kind="report", suffix=".html"),
        "scores": store.put(tmp_path / "scores", kind="json", suffix=".json"),
    }


def test_each_kind_is_read_as_what_it_is(outputs: dict[str, Artifact]) -> None:
    written("support", KEY, outputs)
    table = kommuna.load(KEY[:8], "table")
    assert isinstance(table, pl.LazyFrame)
    assert table.collect()["id"].to_list() == [1, 2]
    assert kommuna.load(KEY, "model").predict_table(NEW).equals(linear_model().predict_table(NEW))
    assert kommuna.load(KEY, "report").html == "<html>Ещё</html>"
    assert kommuna.load(KEY, "scores", team="support") == {"rows": 7}


def test_a_task_of_a_run_is_found_by_its_names(outputs: dict[str, Artifact]) -> None:
    written("support", KEY, {"scores": outputs["report"]})
    written("support", LATER, {"scores": outputs["scores"]}, day=1)
    assert kommuna.load("support__topics/manual__1/a/train") == {"rows": 7}
    with pytest.raises(TeamMistake, match="task 'train' of run 'manual__2' has no result of its own"):
        kommuna.load("support__topics/manual__2/train")
    with pytest.raises(TeamMistake, match="is not DAG/RUN/TASK"):
        kommuna.load("support__topics/train")


def test_an_output_is_named_where_there_are_several(outputs: dict[str, Artifact]) -> None:
    written("support", KEY, outputs)
    with pytest.raises(TeamMistake, match="several outputs") as error:
        kommuna.load(KEY)
    assert error.value.fix == "its outputs: table, model, report, scores"
    with pytest.raises(TeamMistake, match="no output 'tables'"):
        kommuna.load(KEY, "tables")


def test_another_teams_results_are_refused(outputs: dict[str, Artifact], monkeypatch: pytest.MonkeyPatch) -> None:
    written("support", KEY, {"scores": outputs["scores"]})
    monkeypatch.setenv("KOMMUNA_TEAM", "fraud")
    for given in ({"result": "support__topics/manual__1/a/train"}, {"result": KEY, "team": "support"}):
        with pytest.raises(TeamMistake, match="belongs to team 'support'"):
            kommuna.load(**given)
    with pytest.raises(TeamMistake, match="no key begins with"):
        kommuna.load(KEY)


def test_what_the_store_refuses_is_refused(
    outputs: dict[str, Artifact], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On an object store the caller's own credentials decide."""
    written("support", KEY, {"scores": outputs["scores"]})

    def forbidden(*_: object, **__: object) -> None:
        raise PermissionError("Forbidden")

    monkeypatch.setattr(type(store.fs), "find", forbidden)
    with pytest.raises(KommunaError, match=r"Forbidden|permission|refuse"):
        kommuna.load(KEY, team="support")
