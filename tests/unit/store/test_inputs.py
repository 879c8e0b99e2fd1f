"""Files by URL: what cannot be read is the team's mistake; a server that does not answer is an outage."""

from __future__ import annotations

from pathlib import Path

import pytest

from kommuna.errors import DataError, StoreUnreachable
from kommuna.spec.step import FileInput, StepSpec
from kommuna.store import Store
from kommuna.store.inputs import find_inputs


def find(store: Store, url: str, folder: Path) -> None:
    spec = StepSpec(function="m:f", team="support", store=store.address, inputs={"table": FileInput(url=url)})
    find_inputs(spec, store, folder)


@pytest.mark.parametrize("url", ["s3://nobody/x.csv", "reference://x", "jupyter://x", "nosuch://x"])
def test_a_url_that_cannot_be_read_is_the_teams_mistake_whatever_its_driver_raises(
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
