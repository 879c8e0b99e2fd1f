"""Access: logins and tokens, against a server that answers as Airflow does."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from kommuna.embedded.access import Access, token
from kommuna.embedded.loopback import call
from kommuna.errors import PlatformFault
from kommuna.spec.installation import Installation
from kommuna.spec.team import Platform


class Login(BaseHTTPRequestHandler):
    """`POST /auth/token` of Airflow's SimpleAuthManager: 201 with a token, or 401."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        good = self.path == "/auth/token" and body == {"username": "support", "password": "right"}
        answer = {"access_token": "abc"} if good else {"detail": "Invalid credentials"}
        self.send_response(201 if good else 401)
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def address() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Login)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def access(airflow: str, password: str = "right") -> Access:
    return Access(airflow, "", {"support": "support"}, {"support": password})


def test_a_login_is_exchanged_for_a_token(address: str) -> None:
    assert token(access(address), "support") == "abc"


def test_no_proxy_is_used(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert token(access(address), "support") == "abc"


def test_an_unknown_login_suggests_the_nearest(address: str) -> None:
    with pytest.raises(PlatformFault, match=r"no login 'suport' \(did you mean 'support'\?\)"):
        token(access(address), "suport")


def test_a_refused_password_reports_the_answer_of_airflow(address: str) -> None:
    with pytest.raises(PlatformFault, match=r"refuses the login 'support': 401 .*Invalid credentials"):
        token(access(address, "wrong"), "support")


def test_a_stopped_platform_is_reported(address: str) -> None:
    with pytest.raises(PlatformFault, match="Airflow does not answer"):
        token(access("http://127.0.0.1:9"), "support")
    assert call("http://127.0.0.1:9/health") is None


def test_each_login_has_a_team_and_a_password_and_removed_logins_have_none(tmp_path: Path) -> None:
    def installation(**people: str) -> Installation:
        return Installation(
            Platform.model_validate({"teams": {"support": {"bundle": "dags/support", "people": people}}}), tmp_path
        )

    before = Access.of(installation(sue="viewer", tom="op"))
    assert before.logins == {"admin": "", "support": "support", "sue": "support", "tom": "support"}
    assert len(set(before.passwords.values())) == 4
    after = Access.of(installation(sue="viewer"))
    assert after.passwords == {login: before.passwords[login] for login in ("admin", "support", "sue")}
