"""How the tests are divided between workers, and a real S3 server."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from kommuna.waiting import wait_until

PLATFORM = "tests/integration/platform/"


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With `-n 2`, one worker runs the tests of the platform one by one, and the other the remaining files beside it."""
    from xdist.scheduler import LoadScopeScheduling

    class OnePlatform(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return PLATFORM if nodeid.startswith(PLATFORM) else nodeid.partition("::")[0]

    return OnePlatform(config, log)


@pytest.fixture(scope="module")
def s3(free_port: Callable[[], int]) -> Iterator[dict[str, str]]:
    """The client options of a real S3 server with the bucket `artifacts`."""
    import boto3

    port = free_port()
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    where = {"endpoint_url": f"http://127.0.0.1:{port}", "region_name": "us-east-1"}
    client = boto3.client("s3", aws_access_key_id="a", aws_secret_access_key="b", **where)

    def made() -> bool:
        with contextlib.suppress(Exception):
            return bool(client.create_bucket(Bucket="artifacts"))
        return False

    wait_until("the S3 server answers", made, every=0.1)
    yield where
    server.terminate()
    server.wait()
