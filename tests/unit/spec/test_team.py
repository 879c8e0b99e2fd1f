"""kommuna.yaml: what it refuses, and with which words."""

from __future__ import annotations

from pathlib import Path

import pytest

from kommuna.errors import SpecError
from kommuna.spec.installation import find_installation, place_of
from kommuna.spec.llm import Llms
from kommuna.spec.team import Platform


def read(tmp_path: Path, text: str) -> Platform:
    path = tmp_path / "kommuna.yaml"
    path.write_text(text)
    return Platform.from_yaml(path)


@pytest.mark.parametrize(
    ("text", "message", "line"),
    [
        ("teams:\n  support:\n    bundel: dags/x\n", "unknown key 'bundel' at teams.support.bundel (did you mean 'bundle'?)", 3),
        ("teams:\n  Support:\n    bundle: x\n", "teams.Support.[key]: expected a text that matches", 2),
        ("teams:\n  aaa: {bundle: x}\n  bbb: {bundle: x}\n", "teams aaa and bbb share the bundle 'x'", 2),
        ("teams:\n  aaa:\n    bundle: x\n    pools: {gpu: 1}\n", "a team needs a pool named 'default'", 2),
        ("teams:\n  aaa:\n    bundle: x\n    quota:\n      memory: 4 gigs\n", "'4 gigs' is not a memory quantity", 5),
        ("teams:\n  aaa: {bundle: x}\n  aaa: {bundle: y}\n", "duplicate key 'aaa'", 3),
        ("teams: [\n", "is not valid YAML", 2),
        ("teams:\n  aaa: {bundle: x}\nllm:\n  light: {url: 'http://x/v1', model: m, teams: [aab]}\n", "llm.light.teams: no team 'aab' (did you mean 'aaa'?)", 4),
        ("teams:\n  aaa: {bundle: x, llm: {month: {mony: 5}}}\n", "unknown key 'mony' at teams.aaa.llm.month.mony", 2),
    ],
)  # fmt: skip
def test_a_mistake_is_reported_with_its_line(tmp_path: Path, text: str, message: str, line: int) -> None:
    with pytest.raises(SpecError) as error:
        read(tmp_path, text)
    assert message in error.value.what
    assert error.value.where == f"{tmp_path / 'kommuna.yaml'}:{line}"


def test_a_missing_and_a_misencoded_file_have_different_messages(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="no file"):
        Platform.from_yaml(tmp_path / "absent.yaml")
    (tmp_path / "latin.yaml").write_bytes("teams: {é: 1}".encode("latin-1"))
    with pytest.raises(SpecError, match="is not UTF-8 text"):
        Platform.from_yaml(tmp_path / "latin.yaml")


def test_a_file_belongs_to_the_team_whose_bundle_holds_it(tmp_path: Path) -> None:
    read(tmp_path, "teams:\n  aaa: {bundle: dags/a}\n  bbb: {bundle: dags/b}\n")
    (tmp_path / "dags/b/deep").mkdir(parents=True)
    place = place_of(tmp_path / "dags/b/deep/file.py")
    assert (place.team, place.bundle) == ("bbb", tmp_path / "dags/b")
    with pytest.raises(SpecError, match=r"file\.py is not in any team's bundle"):
        place_of(tmp_path / "dags/c/file.py")


def test_a_process_of_one_team_says_so_in_its_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read(tmp_path, "teams:\n  aaa: {bundle: dags/a}\n")
    monkeypatch.setenv("KOMMUNA_PLATFORM", str(tmp_path / "kommuna.yaml"))
    monkeypatch.setenv("KOMMUNA_TEAM", "aaa")
    assert place_of("/somewhere/else/file.py").team == "aaa"


def test_an_unknown_team_names_the_nearest(tmp_path: Path) -> None:
    read(tmp_path, "teams:\n  support: {bundle: dags/a}\n")
    with pytest.raises(SpecError, match=r"no team 'suport'.*did you mean 'support'"):
        find_installation(tmp_path).require_team("suport")


LLMS = """
teams:
  aaa: {bundle: dags/a, llm: {month: {money: 50}, run: {tokens: 1000}}}
  bbb: {bundle: dags/b}
llm:
  light: {url: "http://x/v1", model: m, teams: [aaa]}
  heavy: {url: "http://y/v1", model: m}
"""


def test_a_team_gets_the_llms_that_name_it_and_those_that_name_none(tmp_path: Path) -> None:
    read(tmp_path, LLMS)
    installation = find_installation(tmp_path)
    known = {team: installation.services(team) for team in ("aaa", "bbb")}
    assert {team: list(services.llm.endpoints) for team, services in known.items()} == {
        "aaa": ["light", "heavy"], "bbb": ["heavy"],
    }  # fmt: skip
    assert (known["aaa"].llm_budgets.month.money, known["aaa"].llm_budgets.run.tokens) == (50, 1000)
    assert known["bbb"].llm_budgets.month.money is None


@pytest.mark.parametrize(
    ("endpoint", "message"),
    [
        ({"secret": {"name": "models", "key": "token"}}, "secret: name the environment variable"),
        ({"ca": "-----BEGIN RSA PRIVATE KEY-----"}, "without its key"),
        ({"ca": "/etc/ca.crt"}, "as PEM"),
        ({"proxy": "http://me:secret@proxy:3128"}, "expected a text that matches"),
        ({"door": {"to": [{}], "ports": [{"port": 443}]}}, "door"),
    ],
)
def test_an_endpoint_that_cannot_work_on_a_cluster_is_refused(endpoint: dict[str, object], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        Llms.read({"light": {"url": "http://x/v1", "model": "m"} | endpoint})


def test_two_endpoints_with_one_variable_need_one_secret() -> None:
    one = {"url": "http://x/v1", "model": "m", "key_variable": "KEY", "secret": {"name": "models", "key": "a"}}
    assert Llms.read({"light": one, "heavy": one}).secrets.keys() == {"KEY"}
    with pytest.raises(SpecError, match=r"heavy\.key_variable: 'KEY' holds the light endpoint's key"):
        Llms.read({"light": one, "heavy": one | {"secret": {"name": "models", "key": "b"}}})
