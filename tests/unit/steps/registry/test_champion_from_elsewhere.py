"""A champion that the store does not have: a model from elsewhere, or one whose artifact is gone."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from tests.rigs.promotion import champion_of, judged

from kommuna.errors import DataError, IntegrityError, SpecError
from kommuna.spec.step import ModelInput, Services, StepContext, StepSpec, StoreAddress
from kommuna.steps.registry.client import Registry
from kommuna.steps.registry.register import register
from kommuna.steps.training.champion import Champion, PyfuncModel
from kommuna.steps.training.evaluate import evaluate
from kommuna.steps.training.evaluation.scores import Scores
from kommuna.steps.training.tagger import Tagger
from kommuna.store import Store
from kommuna.store.inputs import FoundInput, find_inputs


@pytest.fixture
def registry(mlflow_server: str) -> Registry:
    return Registry(mlflow_server, "support")


def found(registry: Registry, name: str, folder: Path) -> tuple[FoundInput, Path]:
    """The champion as the runtime finds it, and its local files."""
    address = StoreAddress(url=(folder / "store").as_uri())
    services = Services(mlflow=registry.url, workspace="support")
    spec = StepSpec(
        function="kommuna.steps:evaluate", team="support", store=address, services=services,
        inputs={"champion": ModelInput(model=name)},
    )  # fmt: skip
    store = Store(address, "support")
    with store.scratch() as scratch:
        inputs = find_inputs(spec, store, scratch)
        champion = inputs.trees["champion"]
        assert isinstance(champion, FoundInput)
        (folder / "inputs").mkdir(parents=True)
        local = champion.local(store, folder, "champion")
    assert local.made
    assert local.path is not None
    return champion, Path(local.path)


def foreign(registry: Registry, name: str, model: Any, **options: Any) -> None:
    """Registers a model as a user of MLflow does, and makes it the champion by hand."""
    import mlflow

    with registry.session() as client:
        mlflow.set_experiment(name)
        with mlflow.start_run():
            mlflow.sklearn.log_model(
                model, name="model", registered_model_name=name, pip_requirements=[], serialization_format="cloudpickle",
                **options,
            )  # fmt: skip
        client.set_registered_model_alias(name, "champion", "1")


@pytest.mark.slow
def test_a_plain_sklearn_champion_is_evaluated_and_then_replaced(
    registry: Registry, messages: pl.DataFrame, tagger: Tagger, tmp_path: Path
) -> None:
    pipeline = make_pipeline(CountVectorizer(), LogisticRegression()).fit(
        messages["text"].to_list(), messages["tag"].to_list()
    )
    foreign(registry, "plain", pipeline)
    champion, path = found(registry, "plain", tmp_path)
    version = registry.by_alias("plain", "champion")
    assert version is not None
    assert champion.bytes == version.identity  # what the scores name is what `promote` finds
    model = Champion.load(path)
    assert isinstance(model, PyfuncModel)
    assert model.tags == ("card", "credit")
    gold = messages.slice(100).with_columns(id=pl.col("id") + 1000)
    scores = evaluate(
        tagger, gold.lazy(), messages.slice(80, 20).lazy(), messages.head(80).drop("tag").lazy(), champion=model,
        max_text_overlap=1.0,
    )  # fmt: skip
    assert scores.metrics["champion.accuracy"] == 1.0
    context = StepContext(team="support", inputs={"model": "1" * 64})
    ours = register(tagger, scores.scores, messages.lazy(), name="plain", context=context, registry=registry).version
    assert judged(registry, ours, version).outcome == "promoted"
    assert champion_of(registry, "plain") == "2"


@pytest.mark.slow
def test_a_foreign_champion_that_knows_other_names_says_how_to_go_on(
    registry: Registry, messages: pl.DataFrame, tmp_path: Path
) -> None:
    numbers = [int(tag == "card") for tag in messages["tag"]]
    foreign(
        registry,
        "numbers",
        make_pipeline(CountVectorizer(), LogisticRegression()).fit(messages["text"].to_list(), numbers),
    )
    _, path = found(registry, "numbers", tmp_path)
    model = Champion.load(path)
    assert isinstance(model, PyfuncModel)
    with pytest.raises(DataError, match="gives none of the tags: it gives 0, 1") as error:
        model.chosen(messages, "text", ("card", "credit"))
    assert "kommuna models unpin" in error.value.fix
    with pytest.raises(DataError, match="its steps do not tag with it"):
        Tagger.load(path)


@pytest.mark.slow
def test_a_champion_whose_artifact_is_gone_comes_from_mlflows_copy(
    registry: Registry, messages: pl.DataFrame, tagger: Tagger, scores: Scores, tmp_path: Path
) -> None:
    tagger.save(tmp_path / "tagger")
    digest = hashlib.sha256((tmp_path / "tagger").read_bytes()).hexdigest()
    for name, of in (("gone", digest), ("damaged", "5" * 64)):
        context = StepContext(team="support", inputs={"model": of}, manifests={"model": "b" * 64})
        version = register(tagger, scores, messages.lazy(), name=name, context=context, registry=registry).version
        registry.set_alias(version, "champion")
    champion, path = found(registry, "gone", tmp_path / "a")
    assert champion.bytes == digest
    assert Tagger.load(path).predict_table(messages).equals(tagger.predict_table(messages))
    with pytest.raises(IntegrityError, match="MLflow has no copy of it"):
        found(registry, "damaged", tmp_path / "b")


def test_without_a_champion_the_refusal_of_the_last_version_is_named(registry: Registry, tmp_path: Path) -> None:
    from tests.rigs.promotion import add

    version = add(registry, "refused_first", "1" * 64)
    registry.set_alias(version, "challenger")
    judged(registry, version, None, f1_macro=0.2)
    with pytest.raises(SpecError) as error:
        found(registry, "refused_first", tmp_path)
    assert error.value.what == (
        "model 'refused_first' has no champion yet; version 1 did not become it: the gate does not hold: f1_macro 0.2 < 0.7"
    )
