"""`kommuna models` against a real MLflow server. It is here for that server."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.rigs.promotion import add, champion_of, judged
from typer.testing import CliRunner

from kommuna.cli.main import app
from kommuna.errors import SpecError
from kommuna.steps.registry.client import Registry

NAME = "support__commanded"


def run(*arguments: str) -> str:
    done = CliRunner().invoke(app, ["models", *arguments])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.stdout


def test_a_person_rolls_back_sees_the_pin_and_lifts_it(
    mlflow_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "kommuna.yaml").write_text(f"mlflow: {mlflow_server}\nteams:\n  support: {{bundle: dags}}\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LOGNAME", "anna")
    registry = Registry(mlflow_server, "support")
    v1, v2 = add(registry, NAME, "1" * 64), add(registry, NAME, "2" * 64)
    judged(registry, v1, None)
    judged(registry, v2, v1)

    assert "version 1 is the champion; anna pinned version 1 until 2099-01-01 00:00 UTC: complaints" in run(
        "rollback", NAME, "--reason", "complaints", "--until", "2099-01-01"
    )
    assert champion_of(registry, NAME) == "1"
    (listed,) = [one for one in json.loads(run("list", "--json")) if one["model"] == NAME]
    assert listed == {
        "model": NAME, "champion": "1", "held": "anna pinned version 1 until 2099-01-01 00:00 UTC: complaints",
    }  # fmt: skip
    shown = json.loads(run("list", NAME, "--json"))
    assert [(one["version"], one["verdict"]) for one in shown["versions"]] == [("2", "rolled back"), ("1", "pinned")]
    assert [one["action"] for one in shown["decisions"]] == ["promoted", "promoted", "rolled back"]
    table = run("list", NAME)
    assert "complaints" in table
    assert "the gate of support__topics" in table

    assert run("unpin", NAME).strip() == f"{NAME}: version 1 is the champion"
    assert "anna pinned version 2: audit" in run("pin", NAME, "2", "--reason", "audit")
    assert champion_of(registry, NAME) == "2"
    with pytest.raises(SpecError, match=f"{NAME} has no version 9"):
        run("rebuild", NAME, "9")
    with pytest.raises(SpecError, match=f"{NAME} version 1 has no record in the store: no step of Kommuna trained it"):
        run("rebuild", NAME, "1")
    with pytest.raises(SpecError, match="has no team in front"):
        run("unpin", "commanded")
    with pytest.raises(SpecError, match=r"no team 'suport' .did you mean 'support'"):
        run("unpin", "suport__commanded")
