"""`kommuna rules refine`: from files to a rules file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import polars as pl
import pytest
from tests.rigs.llm_server import LlmServer
from typer.testing import CliRunner

from kommuna.cli.main import app
from kommuna.errors import DataError, KommunaError, LlmSettings, SpecError
from kommuna.spec.llm import LlmEndpoint, Llms
from kommuna.spec.rules import RuleSet


@pytest.fixture
def files(tmp_path: Path) -> Path:
    words = {"card": "lost my card", "loan": "want a loan", "fees": "monthly fee"}
    tags = [list(words)[i % 3] for i in range(240)]
    table = pl.DataFrame(
        {"id": range(240), "text": [f"{'hello ' * (i % 2)}{words[tag]}" for i, tag in enumerate(tags)], "tag": tags}
    )
    table.write_csv(tmp_path / "dev.csv")
    table.drop("tag").with_columns(pl.col("id") + 1_000).write_csv(tmp_path / "m.csv")
    return tmp_path


def refine(folder: Path, *options: str, dev: str = "dev.csv") -> tuple[str, BaseException | None]:
    paths = [str(folder / "m.csv"), str(folder / dev), "--out", str(folder / "out.yaml")]
    result = CliRunner().invoke(app, ["rules", "refine", *paths, *options])
    return result.output, result.exception


def test_it_writes_rules_and_a_report_and_leaves_no_rounds_behind(files: Path) -> None:
    pl.read_csv(files / "dev.csv").with_columns(pl.col("id") + 5_000).write_csv(files / "gold.csv")
    options = ["--gold", str(files / "gold.csv"), "--report", str(files / "r.html")]
    output, error = refine(files, *options, "--dev-votes", str(files / "v.parquet"))
    assert error is None, output
    rules = RuleSet.from_yaml(files / "out.yaml")
    assert {rule.tag for rule in rules.rules} == {"card", "loan", "fees"}
    assert "1.000" in output
    assert f"Written: {files / 'out.yaml'}" in output.replace("\n", "")
    assert "<svg" in (files / "r.html").read_text()
    assert sorted(path.name for path in files.iterdir()) == [
        "dev.csv", "gold.csv", "m.csv", "out.yaml", "r.html", "v.parquet",
    ]  # fmt: skip
    votes = pl.read_parquet(files / "v.parquet")
    assert votes["id"].to_list() == list(range(240))
    assert set(votes.columns) == {"id", *(rule.name for rule in rules.rules)}


@pytest.mark.slow
def test_refined_rules_are_tested_with_the_held_out_votes_on_dev(files: Path) -> None:
    output, error = refine(files, "--dev-votes", str(files / "v.parquet"))
    assert error is None, output
    first = RuleSet.from_yaml(files / "out.yaml").rules[0].name
    pl.read_parquet(files / "v.parquet").with_columns(pl.lit(None).cast(pl.String).alias(first)).write_parquet(
        files / "v.parquet"
    )
    asked = ["rules", "test", str(files / "out.yaml"), str(files / "m.csv"), "--json"]
    own, held_out = (
        json.loads(CliRunner().invoke(app, [*asked, *options]).stdout)["rules"]
        for options in (
            ["--labels", str(files / "dev.csv")],
            ["--labels", str(files / "dev.csv"), "--dev-votes", str(files / "v.parquet")],
        )
    )
    assert next(rule["dev_votes"] for rule in own if rule["rule"] == first) > 0
    assert next(rule["dev_votes"] for rule in held_out if rule["rule"] == first) == 0
    alone = CliRunner().invoke(app, [*asked, "--dev-votes", str(files / "v.parquet")]).exception
    assert isinstance(alone, SpecError)
    assert "--labels" in str(alone)


@pytest.mark.slow
def test_it_starts_from_given_rules(files: Path) -> None:
    (files / "rules.yaml").write_text("tags: [card, loan, fees]\nrules: [{name: mine, tag: card, any: [lost]}]\n")
    output, error = refine(files, "--rules", str(files / "rules.yaml"))
    assert error is None, output
    assert "mine" in {rule.name for rule in RuleSet.from_yaml(files / "out.yaml").rules}


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        (["--proposer", "mynah"], SpecError, "no proposer 'mynah'"),
        (["--proposer", "llm"], LlmSettings, "no heavy LLM is configured"),
        (["--rules", "nowhere.yaml"], KommunaError, "nowhere.yaml"),
    ],
)
def test_invalid_options_are_refused(
    files: Path, monkeypatch: pytest.MonkeyPatch, root: Path, options: list[str], kind: type, message: str
) -> None:
    monkeypatch.chdir(root)
    _, error = refine(files, *options)
    assert isinstance(error, kind)
    assert message in str(error)


def test_the_dev_file_is_not_accepted_as_gold(files: Path) -> None:
    _, error = refine(files, "--gold", str(files / "dev.csv"))
    assert isinstance(error, DataError)
    assert "240 of 240 gold rows are dev rows too" in str(error)
    assert sorted(path.name for path in files.iterdir()) == ["dev.csv", "m.csv"]  # no folder of rounds


def test_too_few_dev_rows_are_an_error_with_a_fix(files: Path) -> None:
    pl.read_csv(files / "dev.csv").head(20).write_csv(files / "few.csv")
    _, error = refine(files, dev="few.csv")
    assert isinstance(error, DataError)
    assert "20 dev rows are too few" in str(error)


def test_fewer_rounds_than_none_are_refused(files: Path) -> None:
    output, error = refine(files, "--rounds", "-1")
    assert isinstance(error, SystemExit)
    assert error.code == 2
    assert "--rounds" in output


def test_a_run_without_a_rule_leaves_no_rounds_behind(files: Path) -> None:
    table = pl.read_csv(files / "dev.csv").with_columns(text=pl.lit("the same words"))
    table.write_csv(files / "dev.csv")
    _, error = refine(files)
    assert isinstance(error, DataError)
    assert sorted(path.name for path in files.iterdir()) == ["dev.csv", "m.csv"]


@pytest.fixture
def asking(files: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LlmServer]:
    """An LLM of the installation, and a rules file that asks it."""
    server = LlmServer().start()
    llms = Llms(light=LlmEndpoint(url=server.url, model="tiny", input_price=1_000.0, output_price=1_000.0))
    here = SimpleNamespace(platform=SimpleNamespace(llm=llms))
    for module in ("refine", "rules"):
        monkeypatch.setattr(f"kommuna.cli.{module}.installation", lambda: here)
    rules = "tags: [card, loan, fees]\nrules: [{name: asked, tag: card, ask: 'Does it mention card?'}]\n"
    (files / "rules.yaml").write_text(rules)
    yield server
    server.stop()


def test_it_tells_what_the_questions_of_given_rules_cost(files: Path, asking: LlmServer) -> None:
    output, error = refine(files, "--rules", str(files / "rules.yaml"), "--rounds", "0")
    assert error is None, output
    requests = len(asking.received)
    assert requests > 0
    assert f"LLM requests: {requests}, tokens: {110 * requests}, cost: {0.11 * requests:.2f}" in output
    assert len(asking.pairs) == len(set(asking.pairs)) == 6  # texts of dev and messages, each once


def test_rules_test_asks_each_text_once_and_tells_what_more_messages_would_cost(files: Path, asking: LlmServer) -> None:
    paths = [str(files / "rules.yaml"), str(files / "m.csv"), "--labels", str(files / "dev.csv")]
    result = CliRunner().invoke(app, ["rules", "test", *paths])
    assert result.exception is None, result.output
    assert len(asking.pairs) == len(set(asking.pairs)) == 6
    tokens = 110 * len(asking.received)
    assert f"tokens: {tokens}, cost: {tokens / 1000:.2f}; 1,000 more messages: about" in result.output
    assert "1.000" in result.output  # the accuracy on the labeled rows
    nothing = CliRunner().invoke(app, ["rules", "test", *paths, "--money", "0"])
    assert "LLM requests: 0, tokens: 0, cost: 0.00" in nothing.output


def test_with_a_budget_of_zero_it_asks_nothing(files: Path, asking: LlmServer) -> None:
    output, error = refine(files, "--rules", str(files / "rules.yaml"), "--rounds", "0", "--tokens", "0")
    assert error is None, output
    assert asking.received == []
    assert "LLM requests: 0, tokens: 0, cost: 0.00" in output
