"""Airflow's settings from kommuna.yaml."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import pytest

from kommuna.airflow.server.plugin import KommunaPlugin
from kommuna.embedded.settings import (
    airflow_settings,
    commands,
    logins,
    process_environment,
)
from kommuna.embedded.sockets import sockets_folder
from kommuna.errors import SpecError
from kommuna.spec.installation import Installation
from kommuna.spec.team import Platform

SECRETS = {"jwt": "j", "fernet": "f", "api": "a"}


def installation(*teams: str, **fields: object) -> Installation:
    people = {"people": {"sue": "viewer"}}
    return Installation(
        Platform.model_validate(
            {"teams": {t: {"bundle": f"dags/{t}", "parallelism": 3, **people} for t in teams}} | fields
        ),
        Path("/site"),
    )


def test_each_team_gets_its_own_executor_and_settings() -> None:
    settings = airflow_settings(installation("support", "fraud"), SECRETS)
    assert settings["AIRFLOW__CORE__EXECUTOR"] == "LocalExecutor;support=LocalExecutor;fraud=LocalExecutor"
    for team in ("SUPPORT", "FRAUD"):
        assert settings[f"AIRFLOW__{team}___CORE__PARALLELISM"] == "3"
        assert settings[f"AIRFLOW__{team}___CORE__EXECUTION_API_SERVER_URL"] == "http://127.0.0.1:8080/execution/"


def test_a_folder_with_only_kommuna_yaml_gets_the_pages_and_the_isolation_of_the_platform() -> None:
    folder = Path(airflow_settings(installation("support"), SECRETS)["AIRFLOW__CORE__PLUGINS_FOLDER"])
    (plugin,) = folder.glob("*.py")
    assert runpy.run_path(str(plugin))["KommunaPlugin"] is KommunaPlugin


def test_bundles_carry_their_team_and_their_folder() -> None:
    settings = airflow_settings(installation("support", "fraud"), SECRETS)
    bundles = json.loads(settings["AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST"])
    assert [(b["name"], b["team_name"], b["kwargs"]["path"]) for b in bundles] == [
        ("support", "support", "/site/dags/support"),
        ("fraud", "fraud", "/site/dags/fraud"),
    ]


def test_users_belong_to_their_team_and_the_admin_to_all() -> None:
    settings = airflow_settings(installation("support"), SECRETS)
    assert settings["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS"] == "admin:admin,support:op:support,sue:viewer:support"
    assert logins(installation("support")) == {"admin": "", "support": "support", "sue": "support"}


def test_many_teams_share_the_tasks_that_one_machine_can_run() -> None:
    names = [f"team{i}" for i in range(20)]
    settings = airflow_settings(installation(*names), SECRETS)
    assert {settings[f"AIRFLOW__{name.upper()}___CORE__PARALLELISM"] for name in names} == {"1"}
    assert settings["AIRFLOW__CORE__PARALLELISM"] == "6"


def test_airflow_and_mlflow_are_on_the_platforms_own_server() -> None:
    settings = airflow_settings(installation("support"), SECRETS)
    folder = sockets_folder(Path("/site/.kommuna"))
    at = f"airflow@/airflow?host={folder}&port=5432"
    assert settings["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] == f"postgresql+psycopg2://{at}"
    assert settings["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_ASYNC"] == f"postgresql+asyncpg://{at}"
    mlflow = commands(installation("support"), Path("/bin"))["mlflow"]
    assert f"postgresql+psycopg2://mlflow@/mlflow?host={folder}&port=5432" in mlflow


def test_forty_requests_with_two_connections_each_do_not_deadlock() -> None:
    assert airflow_settings(installation("support"), SECRETS)["AIRFLOW__DATABASE__SQL_ALCHEMY_MAX_OVERFLOW"] == "-1"
    postgres = commands(installation("support"), Path("/bin"))["postgres"]
    (most,) = [option for option in postgres if option.startswith("max_connections=")]
    assert int(most.partition("=")[2]) > 40 * 2 + 100  # and the other processes


def test_a_platform_without_teams_has_settings() -> None:
    settings = airflow_settings(installation(), SECRETS)
    assert settings["AIRFLOW__CORE__EXECUTOR"] == "LocalExecutor"


def test_an_external_mlflow_is_not_started() -> None:
    assert "mlflow" in commands(installation("support"), Path("/bin"))
    assert "mlflow" not in commands(installation("support", mlflow="http://127.0.0.1:9"), Path("/bin"))


def test_one_triggerer_serves_all_teams() -> None:
    command = commands(installation("support", "fraud"), Path("/bin"))["triggerer"]
    assert command == [
        "/bin/python", "-m", "kommuna.airflow.triggers.process", "--skip-serve-logs", "support", "fraud"
    ]  # fmt: skip


def test_a_person_in_two_teams_is_one_user_with_both_teams() -> None:
    site = installation("support", "fraud")
    settings = airflow_settings(site, SECRETS)
    assert "sue:viewer:support|fraud" in settings["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS"].split(",")
    assert logins(site)["sue"] == "support, fraud"


@pytest.mark.parametrize(("login", "role"), [("fraud", "viewer"), ("admin", "op")])
def test_a_login_with_two_roles_is_refused(login: str, role: str) -> None:
    teams = {"fraud": {"bundle": "a"}, "support": {"bundle": "b", "people": {login: role}}}
    with pytest.raises(SpecError, match=f"the login '{login}' of team 'support' is taken"):
        logins(Installation(Platform.model_validate({"teams": teams}), Path("/site")))


def test_one_team_alone_does_not_get_more_workers_than_it_may_use() -> None:
    settings = airflow_settings(installation("support"), SECRETS)
    assert settings["AIRFLOW__CORE__PARALLELISM"] == "3"


def test_settings_of_another_airflow_and_mlflow_have_no_effect() -> None:
    inherited = {
        "PATH": "/bin",
        "AIRFLOW_HOME": "/home/me/airflow",
        "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor",
        "AIRFLOW__CORE__SQL_ALCHEMY_CONN_CMD": "x",
        "AIRFLOW_CONN_BANK": "postgres://",
        "MLFLOW_TRACKING_URI": "http://elsewhere",
        "KOMMUNA_PROGRAM": "scheduler",
        "KOMMUNA_STATE": "/other",
    }
    environment = process_environment(installation("support"), SECRETS, inherited)
    assert environment["AIRFLOW_HOME"] == "/site/.kommuna/airflow"
    assert environment["KOMMUNA_STATE"] == "/site/.kommuna"
    assert environment["AIRFLOW__CORE__EXECUTOR"] == "LocalExecutor;support=LocalExecutor"
    assert environment["AIRFLOW_CONN_BANK"] == "postgres://"
    for name in ("AIRFLOW__CORE__SQL_ALCHEMY_CONN_CMD", "MLFLOW_TRACKING_URI", "KOMMUNA_PROGRAM"):
        assert name not in environment


def test_a_proxy_is_kept_and_bypassed_on_loopback() -> None:
    inherited = {"HTTPS_PROXY": "http://proxy", "no_proxy": "bank.example"}
    environment = process_environment(installation("support"), SECRETS, inherited)
    assert environment["HTTPS_PROXY"] == "http://proxy"
    assert environment["NO_PROXY"] == environment["no_proxy"] == "bank.example,127.0.0.1,localhost"


def test_nothing_is_reported_home() -> None:
    environment = process_environment(installation("support"), SECRETS, {})
    assert environment["AIRFLOW__USAGE_DATA_COLLECTION__ENABLED"] == "False"
    assert environment["MLFLOW_DISABLE_TELEMETRY"] == environment["DO_NOT_TRACK"] == "true"


def test_settings_are_a_pure_function_of_the_description() -> None:
    assert airflow_settings(installation("support"), SECRETS) == airflow_settings(installation("support"), SECRETS)
