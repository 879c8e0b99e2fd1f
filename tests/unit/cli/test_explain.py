"""`kommuna explain` on a tagger in a team's store."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from kommuna.cli.main import app
from kommuna.errors import TeamMistake
from kommuna.spec.installation import find_installation
from kommuna.steps.registry.client import Registry
from kommuna.steps.registry.model_version import MANIFEST, ModelVersion
from kommuna.steps.training.train import train_classifier
from kommuna.store import Manifest, Store

KEY = "ab" * 32
RULES = "tags: [card, cash]\nrules:\n  - {name: plastic, tag: card, any: [card]}\n  - {name: notes, tag: cash, any: [cash]}\n"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "kommuna.yaml").write_text("teams:\n  support: {bundle: dags/support}\n")
    (tmp_path / "rules.yaml").write_text(RULES)
    monkeypatch.chdir(tmp_path)
    words = ["my card please", "a card today", "my cash please", "some cash today"] * 10
    tags = pl.Series(["card", "card", "cash", "cash"] * 10, dtype=pl.Enum(["card", "cash"]))
    p = np.where((tags == "card").to_numpy()[:, None], [[0.9, 0.1]], [[0.1, 0.9]]).astype(np.float32)
    messages = pl.DataFrame({"id": range(40), "text": words})
    labels = messages.select("id", tag=tags, confidence=pl.lit(0.9)).with_columns(
        probabilities=pl.Series(p, dtype=pl.Array(pl.Float32, 2))
    )
    dev = pl.DataFrame({"id": range(40, 80), "text": words, "tag": tags.cast(pl.String)})
    train_classifier(messages.lazy(), labels.lazy(), dev.lazy()).model.save(tmp_path / "tagger")
    store = Store(find_installation(tmp_path).store(), "support")
    model = store.put(tmp_path / "tagger", kind="model", suffix=".tagger")
    store.write_manifest(
        Manifest(
            key=KEY, function="kommuna.steps:train_classifier", team="support", outputs={"model": model},
            version="0", started=datetime.now(UTC), seconds=0, peak_memory_bytes=0,
        )
    )  # fmt: skip
    return tmp_path


def test_explain_shows_the_words_and_the_rules_that_vote(site: Path) -> None:
    result = CliRunner().invoke(app, ["explain", KEY[:8], "my card, please", "--rules", "rules.yaml"])
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].startswith("card ")
    assert any("card" in line and "+" in line for line in lines[1:])
    assert any("plastic" in line and "card" in line for line in lines)
    assert not any("notes" in line and "cash" in line for line in lines)


def test_a_rule_without_its_column_is_named_and_the_others_vote(site: Path) -> None:
    (site / "rules.yaml").write_text(RULES + "  - {name: by_app, tag: card, sql: channel = 'app'}\n")
    asked = ["explain", KEY[:8], "my card, please", "--rules", "rules.yaml"]
    result = CliRunner().invoke(app, asked)
    assert result.exit_code == 0, result.output
    assert any("plastic" in line and "card" in line for line in result.stdout.splitlines())
    assert any("by_app" in line and "not applied" in line and "channel" in line for line in result.stdout.splitlines())
    given = CliRunner().invoke(app, [*asked, "--column", "channel=app"])
    assert any("by_app" in line and "not applied" not in line for line in given.stdout.splitlines())
    with pytest.raises(TeamMistake, match="--column text=x is not NAME=VALUE"):
        CliRunner().invoke(app, [*asked, "--column", "text=x"], catch_exceptions=False)


def test_the_shipped_rules_can_be_explained(site: Path, root: Path) -> None:
    rules = root / "dags" / "support" / "rules.yaml"
    result = CliRunner().invoke(app, ["explain", KEY[:8], "где мой перевод", "--rules", str(rules)])
    assert result.exit_code == 0, result.output
    assert any("where_is_transfer" in line and "transfer_status" in line for line in result.stdout.splitlines())


def test_explain_names_the_default_tag_if_no_rule_votes(site: Path) -> None:
    (site / "rules.yaml").write_text("otherwise: cash\n" + RULES)
    result = CliRunner().invoke(app, ["explain", KEY[:8], "hello", "--rules", "rules.yaml"])
    assert any("otherwise" in line and "cash" in line for line in result.stdout.splitlines()), result.stdout
    result = CliRunner().invoke(app, ["explain", KEY[:8], "my card", "--rules", "rules.yaml"])
    assert "otherwise" not in result.stdout


def test_an_unknown_key_is_reported(site: Path) -> None:
    result = CliRunner().invoke(app, ["explain", "ffff", "my card"])
    assert isinstance(result.exception, TeamMistake)
    assert "no manifests with a model begin with 'ffff'" in str(result.exception)


def test_a_registered_models_champion_explains_by_its_name(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    champion = ModelVersion(name="support__topics", version="2", tags={MANIFEST: KEY})
    versions = {("support__topics", "champion"): champion, ("support__other", "champion"): None}
    monkeypatch.setattr(Registry, "by_alias", lambda _, *asked: versions[asked])
    found = CliRunner().invoke(app, ["explain", "support__topics", "my card, please"])
    assert found.exit_code == 0, found.output
    assert found.stdout.startswith("card ")
    absent = CliRunner().invoke(app, ["explain", "support__other", "my card"])
    assert isinstance(absent.exception, TeamMistake)
    assert "has no champion" in str(absent.exception)
