"""Batch scoring: every row once, in order, for any batch size, in bounded memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from kommuna.errors import MissingColumn, SpecError
from kommuna.steps.training.predict import predict
from kommuna.steps.training.train import Trained, train_classifier


@pytest.fixture(scope="module")
def trained(task) -> Trained:
    return train_classifier(task.messages.lazy(), task.labels.lazy(), task.dev.lazy())


@pytest.mark.parametrize("batch_rows", [1, 7, 64, 10_000])
def test_batches_make_no_difference(task, trained: Trained, batch_rows: int, tmp_path: Path) -> None:
    shuffled = task.messages.sample(fraction=1, shuffle=True, seed=3).head(150)
    shuffled.write_parquet(tmp_path / "messages.parquet", row_group_size=40)
    found = predict(pl.scan_parquet(tmp_path / "messages.parquet"), trained.model, batch_rows=batch_rows)
    table = found.predictions.collect()
    whole = trained.model.predict_table(shuffled)
    assert table.columns == ["id", "tag", "confidence", "decision"]
    assert table["id"].to_list() == shuffled["id"].to_list()
    assert table["tag"].equals(whole["tag"])
    assert table["confidence"].to_numpy() == pytest.approx(whole["confidence"].to_numpy(), abs=1e-6)
    assert found.metrics == {"rows": 150.0}


def test_predictions_are_written_in_order_while_they_are_made(task, trained: Trained, tmp_path: Path) -> None:
    predict(task.messages.lazy(), trained.model, batch_rows=50).predictions.sink_parquet(tmp_path / "out.parquet")
    assert pl.read_parquet(tmp_path / "out.parquet")["id"].equals(task.messages["id"])


def test_a_later_selection_and_filter_are_applied(task, trained: Trained) -> None:
    plan = predict(task.messages.lazy(), trained.model, batch_rows=50).predictions
    assert plan.filter(pl.col("id") == 77).select("id").collect().rows() == [(77,)]
    assert plan.head(3).collect().height == 3
    assert plan.explain()


def test_the_text_column_may_have_another_name(task, trained: Trained) -> None:
    renamed = task.messages.rename({"text": "body"})
    found = predict(renamed.lazy(), trained.model, text="body").predictions.collect()
    assert found["tag"].equals(trained.model.predict_table(task.messages)["tag"])


def test_multi_label_are_a_list(several_task) -> None:
    model = train_classifier(several_task.messages.lazy(), several_task.labels.lazy(), several_task.dev.lazy()).model
    found = predict(several_task.messages.lazy(), model, batch_rows=100).predictions.collect()
    assert found.schema["tags"] == pl.List(pl.Enum(model.tags))
    assert found["tags"].equals(model.predict_table(several_task.messages)["tags"])


def test_at_least_one_gives_every_row_a_tag_and_leaves_other_rows_unchanged(several_task) -> None:
    tables = several_task.messages.lazy(), several_task.labels.lazy(), several_task.dev.lazy()
    plain, one = train_classifier(*tables), train_classifier(*tables, at_least_one=True)
    before = plain.model.predict_table(several_task.gold)["tags"]
    after = predict(several_task.gold.lazy(), one.model).predictions.collect()["tags"]
    without = before.list.len() == 0
    assert plain.metrics["held_out_without_tag"] > 0
    assert one.metrics["held_out_without_tag"] == 0
    assert without.any()
    assert (after.filter(without).list.len() == 1).all()
    assert after.filter(~without).equals(before.filter(~without))


def test_a_batch_of_rows_without_text_is_no_text(task, trained: Trained) -> None:
    messages = task.messages.head(3).with_columns(text=pl.Series([None, "", task.messages["text"][2]]))
    found = predict(messages.lazy(), trained.model).predictions.collect()
    assert found["decision"].to_list()[:2] == ["no text", "no text"]
    assert found["tag"].is_null().to_list() == [True, True, False]


def test_no_messages_give_no_predictions(task, trained: Trained) -> None:
    assert predict(task.messages.head(0).lazy(), trained.model).predictions.collect().height == 0


def test_a_missing_text_column_is_reported_before_any_work(task, trained: Trained) -> None:
    with pytest.raises(MissingColumn, match="messages has no column 'body'"):
        predict(task.messages.lazy(), trained.model, text="body")


def test_a_batch_of_no_rows_is_refused(task, trained: Trained) -> None:
    with pytest.raises(SpecError, match="'batch_rows': expected a number of at least 1, found 0"):
        predict(task.messages.lazy(), trained.model, batch_rows=0)


@pytest.mark.slow
def test_memory_use_is_that_of_one_batch(task, trained: Trained, tmp_path: Path) -> None:
    """400,000 messages of 1 KB: 400 MB of text that must not be in memory at one time."""
    trained.model.save(tmp_path / "model")
    program = f"""
import resource, pathlib, polars as pl
from kommuna.steps.training.predict import predict
from kommuna.steps.training.tagger import Tagger
from kommuna.steps.training.features.tfidf import TextFeatures
folder = pathlib.Path({str(tmp_path)!r})
few = [f"card {{i}} " + "filler " * 150 for i in range(2_000)]
table = pl.DataFrame({{"id": range(2_000), "text": few}})
import pyarrow.parquet as pq
arrow = table.to_arrow()
with pq.ParquetWriter(folder / "m.parquet", arrow.schema, compression="none", use_dictionary=False) as writer:
    for _ in range(200):
        writer.write_table(arrow)
model = Tagger.load(folder / "model")
class First:
    def probabilities(self, frame):
        import numpy as np
        return np.tile(np.array([[.6, .3, .1]], np.float32), (frame.height, 1))
import dataclasses
model = dataclasses.replace(model, scorer=First())
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
predict(pl.scan_parquet(folder / "m.parquet"), model, batch_rows=5_000).predictions.sink_parquet(folder / "out.parquet")
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
assert pl.scan_parquet(folder / "out.parquet").select(pl.len()).collect().item() == 400_000
"""
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert int(done.stdout.split()[-1]) < 300
