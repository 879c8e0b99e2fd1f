from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from kommuna.demo import write
from kommuna.demo.files import write_together
from kommuna.demo.write import DemoData, write_demo_data
from kommuna.errors import SpecError

FILES = {
    "messages.csv",
    "dev.csv",
    "gold.csv",
    "new_messages.csv",
    "transactions.csv",
    "events.csv",
    "tx_dev.csv",
    "tx_gold.csv",
    "new_transactions.csv",
    "truth/truth.parquet",
    "truth/tx_truth.parquet",
}


def digests(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_the_same_seed_gives_the_same_bytes_and_another_seed_other_bytes(tmp_path: Path) -> None:
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        write_demo_data(tmp_path / name, messages=700, seed=seed, dev_rows=50, gold_rows=80)
    first, again, other = (digests(tmp_path / name) for name in "abc")
    assert set(first) == FILES
    assert first == again
    assert not set(first.values()) & set(other.values())


def test_the_number_of_rows_is_as_requested_and_reported(demo: DemoData) -> None:
    expected = {"messages.csv": 20_000, "dev.csv": 1_000, "gold.csv": 2_000, "new_messages.csv": 4_000}
    expected |= {"transactions.csv": 20_000, "tx_dev.csv": 1_000, "tx_gold.csv": 2_000, "new_transactions.csv": 4_000}
    assert set(demo.rows) == FILES
    for name, rows in demo.rows.items():
        read = pl.read_csv if name.endswith(".csv") else pl.read_parquet
        assert read(demo.folder / name).height == rows == expected.get(name, rows)


@pytest.mark.parametrize(
    ("files", "truth_file"),
    [
        (("messages.csv", "dev.csv", "gold.csv", "new_messages.csv"), "truth.parquet"),
        (("transactions.csv", "tx_dev.csv", "tx_gold.csv", "new_transactions.csv"), "tx_truth.parquet"),
    ],
)
def test_ids_are_unique_across_files_and_all_in_the_truth(
    demo: DemoData, files: tuple[str, ...], truth_file: str
) -> None:
    ids = pl.concat([pl.read_csv(demo.folder / name, columns=["id"])["id"] for name in files])
    assert ids.is_unique().all()
    truth = pl.read_parquet(demo.folder / "truth" / truth_file)
    assert set(ids) == set(truth["id"])


def test_labels_of_dev_and_gold_are_the_truth(demo: DemoData) -> None:
    for file, truth_file in (("dev.csv", "truth"), ("gold.csv", "truth"), ("tx_dev.csv", "tx_truth")):
        labeled = pl.read_csv(demo.folder / file)
        both = labeled.join(pl.read_parquet(demo.folder / "truth" / f"{truth_file}.parquet"), on="id", suffix="_true")
        assert both.height == labeled.height
        assert (both["tag"] == both["tag_true"]).all()


def test_unlabeled_files_contain_no_truth(demo: DemoData) -> None:
    columns = {name: pl.read_csv(demo.folder / name, n_rows=1).columns for name in demo.rows if name.endswith(".csv")}
    assert columns["messages.csv"] == ["id", "created_at", "channel", "text", "operator", "operator_tag"]
    assert columns["dev.csv"] == columns["gold.csv"] == [*columns["messages.csv"], "tag", "tags"]
    assert columns["new_messages.csv"] == ["id", "created_at", "channel", "text"]
    assert columns["tx_dev.csv"] == columns["tx_gold.csv"] == [*columns["transactions.csv"], "tag"]
    assert columns["new_transactions.csv"] == columns["transactions.csv"]


def test_several_blocks_have_one_header_and_are_sorted_by_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kommuna.demo.messages.BLOCK", 300)
    write_demo_data(tmp_path, messages=1_000, dev_rows=50, gold_rows=80)
    for name, rows in (("messages.csv", 1_000), ("gold.csv", 80), ("new_messages.csv", 200)):
        table = pl.read_csv(tmp_path / name, try_parse_dates=True)
        assert table.height == rows
        assert table["created_at"].dtype == pl.Datetime
        assert table["created_at"].is_sorted()
        assert table["id"].is_sorted()


def test_progress_ends_at_the_total(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    write_demo_data(
        tmp_path, messages=10, dev_rows=5, gold_rows=5, on_progress=lambda done, rows: seen.append((done, rows))
    )
    assert seen[-1] == (44, 44)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_a_failure_keeps_the_previous_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_demo_data(tmp_path, messages=20, dev_rows=5, gold_rows=5)
    before = digests(tmp_path)

    def fail(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(write, "_write_transactions", fail)
    with pytest.raises(OSError, match="no space left"):
        write_demo_data(tmp_path, messages=30, dev_rows=5, gold_rows=5)
    assert digests(tmp_path) == before


def test_files_with_other_names_are_kept(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with write_together(tmp_path) as draft:
        (draft / "truth").mkdir()
        (draft / "truth" / "new.txt").write_text("new")
    assert sorted(digests(tmp_path)) == ["mine.txt", "truth/new.txt"]


def test_zero_rows_are_refused_with_the_number(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="messages is 0"):
        write_demo_data(tmp_path, messages=0)
    with pytest.raises(SpecError, match="gold_rows is -1"):
        write_demo_data(tmp_path, gold_rows=-1)


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(SpecError, match="taken is a file, not a folder"):
        write_demo_data(tmp_path / "taken", messages=10)
    with pytest.raises(SpecError, match="is a file, not a folder"):
        write_demo_data(tmp_path / "taken" / "deeper", messages=10)


def test_dev_and_gold_have_the_months_share_of_fraud(demo: DemoData) -> None:
    truth = pl.read_parquet(demo.folder / "truth" / "tx_truth.parquet").head(23_000)
    share = float((truth["tag"] == "fraud").mean())  # type: ignore[arg-type]
    assert 0.04 < share < 0.08
    for name in ("tx_dev.csv", "tx_gold.csv"):
        tags = pl.read_csv(demo.folder / name)["tag"]
        assert int((tags == "fraud").sum()) == round(share * len(tags))
    assert np.round(share * 2_000) >= 80
