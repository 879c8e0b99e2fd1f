"""Files by URL: an unreadable file is the team's mistake; a server that does not answer is an outage."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from kommuna.errors import DataError, StoreUnreachable
from kommuna.spec.step import FileInput, StepSpec
from kommuna.store import Store
from kommuna.store.digests import file_digest
from kommuna.store.inputs import FoundFile, InputChanged, Inputs, find_inputs


def find(store: Store, url: str, folder: Path, known: Sequence[FoundFile] = ()) -> Inputs:
    spec = StepSpec(function="m:f", team="support", store=store.address, inputs={"table": FileInput(url=url)})
    return find_inputs(spec, store, folder, known=known)


@pytest.mark.parametrize("url", ["s3://nobody/x.csv", "reference://x", "jupyter://x", "nosuch://x"])
def test_an_unreadable_url_is_the_teams_mistake_whatever_its_driver_raises(
    store: Store, tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    with pytest.raises(DataError, match=f"input 'table': {url} cannot be read"):
        find(store, url, tmp_path)


def test_a_server_that_does_not_answer_is_an_outage(store: Store, tmp_path: Path) -> None:
    with pytest.raises(StoreUnreachable, match="Cannot connect to host"):
        find(store, "http://127.0.0.1:9/x.csv", tmp_path)


def test_a_file_that_the_operator_found_is_not_read_again_unless_it_changed(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []

    def digest(path: Path) -> str:
        read.append(path)
        return file_digest(path)

    monkeypatch.setattr("kommuna.store.inputs.file_digest", digest)
    table = tmp_path / "table.csv"
    table.write_text("id\n1\n")
    found = find(store, str(table), tmp_path / "work")
    again = find(store, str(table), tmp_path / "work", found.files())
    assert again == found
    assert read == [table]
    table.write_text("id\n2\n")
    changed = find(store, str(table), tmp_path / "work", found.files())
    assert changed.flat()["table"].bytes == file_digest(table) != found.flat()["table"].bytes


def test_if_a_file_is_replaced_with_the_same_stamp_the_copy_is_read(store: Store, tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_text("id\n1\n")
    known = find(store, str(table), tmp_path / "work").files()
    wrong = [file.model_copy(update={"bytes": "0" * 64}) for file in known]
    (tmp_path / "work").mkdir()
    with pytest.raises(InputChanged):
        find(store, str(table), tmp_path / "work", wrong).local(store, tmp_path / "work")
