"""A registered version answers raw rows like the batch steps, from its own files."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest

from kommuna.demo.messages import message_blocks
from kommuna.errors import MissingColumn, SchemaDrift, SpecError
from kommuna.spec.table import TableSchema
from kommuna.steps.etl.prepare import prepare_messages
from kommuna.steps.registry.packaged import copy_modules, requirements
from kommuna.steps.registry.service import Service, as_pandas, from_pandas
from kommuna.steps.training.confidence import Acceptance
from kommuna.steps.training.predict import predict
from kommuna.steps.training.tagger import Tagger


@pytest.fixture(scope="module")
def raw() -> pl.DataFrame:
    """Raw messages, a third of them with personal data."""
    return next(message_blocks(1000, seed=3, stream=1, first_id=1)).select("id", "text")


def test_raw_texts_are_answered_as_by_the_batch_steps(tagger: Tagger, raw: pl.DataFrame, tmp_path: Path) -> None:
    raw.write_parquet(tmp_path / "raw.parquet")
    schema = TableSchema(columns={"id": "String", "text": "String"})
    ready = prepare_messages(
        tmp_path / "raw.parquet", table_schema=schema, names=("Иван", "Мария Петрова"), max_chars=90
    )
    batch = predict(ready.table, tagger).predictions.collect()
    kept = raw.filter(pl.col("id").is_in(batch["id"].implode()))
    service = Service(tagger, ready.preparation)
    assert service.prepared(kept)["text"].to_list() == ready.table.collect()["text"].to_list()
    assert service.answer(kept).equals(batch.drop("id"))
    assert not service.prepared(kept)["text"].equals(kept["text"])


def test_without_a_preparation_rows_are_taken_as_they_are(tagger: Tagger, messages: pl.DataFrame) -> None:
    found = Service(tagger).answer(messages, probabilities=True)
    assert found.equals(tagger.predict_table(messages))


def test_a_row_without_text_is_answered_without_tag_and_confidence(tagger: Tagger, messages: pl.DataFrame) -> None:
    column = tagger.columns[0]
    rows = pl.DataFrame({column: [None, " ", messages[column][0]]})
    found = as_pandas(Service(tagger).answer(rows))
    assert found["decision"].to_list()[:2] == ["no text", "no text"]
    assert found["tag"].to_list()[:2] == [None, None]
    assert found["confidence"].to_list()[:2] == [None, None]  # not NaN, which is not JSON
    assert found["confidence"].to_list()[2] > 0


def test_each_word_is_explained_on_request(tagger: Tagger) -> None:
    found = Service(tagger).answer(pl.DataFrame({"text": ["loan please", None, "  "]}), explain=True)
    words = {one["word"]: one["adds"] for one in found["words"][0]}
    assert words["loan"] > 0
    assert [len(row) for row in found["words"][1:]] == [0, 0]


def test_a_caller_may_ask_for_more_or_less_confidence(tagger: Tagger, messages: pl.DataFrame) -> None:
    sure = Acceptance(precision=0.95, min_confidence=0.9, coverage=0.5, predictions=40)
    service = Service(replace(tagger, acceptance=sure))
    assert service.parameters()["min_confidence"] == 0.9
    assert "min_confidence" not in Service(replace(tagger, acceptance=None)).parameters()
    own = service.answer(messages)
    assert service.answer(messages, min_confidence=0.9).equals(own)
    assert set(service.answer(messages, min_confidence=0.0)["decision"]) == {"accepted"}
    none = service.answer(messages, min_confidence=1.1)
    assert set(none["decision"]) == {"review"}
    assert none.drop("decision").equals(own.drop("decision"))


def test_rows_that_do_not_fit_are_refused(tagger: Tagger) -> None:
    with pytest.raises(MissingColumn, match="no column 'text'"):
        Service(tagger).answer(pl.DataFrame({"body": ["a"]}))
    with pytest.raises(SchemaDrift, match="expected String, found Int64"):
        Service(tagger).answer(pl.DataFrame({"text": [1]}))


def test_tables_go_to_pandas_and_back_without_arrow() -> None:
    kind = pl.Enum(["a", "b"])
    table = pl.DataFrame(
        {"tag": ["a", None], "tags": [["a", "b"], []], "p": [[0.5, 0.25], [1.0, 0.0]]},
        schema={"tag": kind, "tags": pl.List(kind), "p": pl.Array(pl.Float32, 2)},
    )
    assert as_pandas(table).to_dict("list") == {
        "tag": ["a", None], "tags": [["a", "b"], []], "p": [[0.5, 0.25], [1.0, 0.0]]
    }  # fmt: skip
    given = pd.DataFrame(
        {"x": [1.5, np.nan], "n": [1, 2], "s": ["a", None], "c": pd.Categorical(["u", None]), "b": [True, False]}
    )
    want = pl.DataFrame({"x": [1.5, None], "n": [1, 2], "s": ["a", None], "c": ["u", None], "b": [True, False]})
    assert from_pandas(given).equals(want)


def test_the_carried_modules_are_enough(tagger: Tagger, messages: pl.DataFrame, tmp_path: Path) -> None:
    """No installed Kommuna is used, nor what only training and the platform need."""
    package = copy_modules(tmp_path / "code")
    assert package == tmp_path / "code/kommuna"
    assert not (package / "airflow").exists()
    tagger.save(tmp_path / "tagger")
    (tmp_path / "preparation.json").write_text('{"region": "KZ"}')
    program = f"""
import sys
sys.path[0] = {str(tmp_path / "code")!r}
for name in ("sklearn", "torch", "airflow", "pyarrow", "matplotlib"):
    sys.modules[name] = None
import polars as pl, kommuna
from pathlib import Path
from kommuna.steps.registry.service import Service
service = Service.load(Path({str(tmp_path)!r}, "tagger"), Path({str(tmp_path)!r}, "preparation.json"))
print(service.answer(pl.DataFrame({{"text": ["my card"]}}), explain=True)["tag"].to_list())
loaded = [module.__file__ for name, module in sys.modules.items() if name.partition(".")[0] == "kommuna"]
print(all(Path(file).is_relative_to({str(tmp_path)!r}) for file in loaded))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd="/")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["['card']", "True"]


def test_requirements_are_few_and_exact(tagger: Tagger) -> None:
    found = requirements(tagger, prepares=True)
    names = {line.partition("==")[0] for line in found}
    assert all("==" in line for line in found)
    assert {"polars", "mlflow-skinny", "phonenumbers"} <= names
    assert names.isdisjoint({"kommuna", "mlflow", "torch", "apache-airflow", "pyarrow", "scikit-learn"})
    assert "phonenumbers" not in {line.partition("==")[0] for line in requirements(tagger, prepares=False)}


def test_a_model_of_table_rows_has_no_words() -> None:
    from tests.recorded.training import NEW, table_model

    with pytest.raises(SpecError, match="no words to explain"):
        Service(table_model()).answer(NEW, explain=True)
