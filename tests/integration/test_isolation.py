"""The split DAG processor: real processes of both halves on loopback, with hostile files and parsers."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest
from tests.rigs.isolation import GOOD, TOKEN, Rig, certify, migrated_database
from tests.rigs.secret_search import SEARCH

from kommuna.airflow.isolation.wire import END, LOG, READY, REQUEST, Wire, frame
from kommuna.waiting import wait_until

EVIL = (
    '''
"""Searches for the database's password wherever a process can, and reports it in the DAG's description."""
import os
import re
from airflow.sdk import DAG
from airflow.providers.standard.operators.empty import EmptyOperator

WANTED = re.compile(rb"[s]3cr3t[D]B")  # which does not match itself
TOKEN = re.compile(rb"[t]0ken-of-the-parse[r]")

'''
    + SEARCH
    + """


report = {
    "environment": len(WANTED.findall(repr(dict(os.environ)).encode())),
    "parents": in_environments(WANTED),
    "memory": in_memory("self", WANTED),
    "files": in_files(WANTED),
    "parent_memory": in_memory(os.getppid(), WANTED),
    "token": in_memory("self", TOKEN) + in_memory(os.getppid(), TOKEN),
}
with DAG("support__evil", schedule=None, description=str(report), default_args={"pool": "support__default"}):
    EmptyOperator(task_id="t")
"""
)


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("database") / "airflow.db"
    migrated_database(path)
    return path


@pytest.fixture
def rig(tmp_path: Path, database: Path) -> Iterator[Rig]:
    made = Rig(tmp_path / "rig", database)
    yield made
    made.stop()


def test_a_dag_parsed_by_the_relay_equals_one_parsed_by_airflows_processor(rig: Rig) -> None:
    rig.good("one")
    rig.write("sub/two.py", GOOD.format(team="support", name="two"))
    rig.start_parser()
    rig.process()
    relayed = rig.serialized()
    assert set(rig.dags()) == {"support__one", "support__two"}
    assert rig.errors() == {}
    with sqlite3.connect(rig.db) as connection:
        for table in ("serialized_dag", "dag_code", "dag_version", "dag_tag", "dag"):
            connection.execute(f"delete from {table}")
    rig.process_by_stock()
    assert rig.serialized() == relayed


def test_a_hostile_file_finds_credentials_under_airflows_processor_but_none_in_the_parser(rig: Rig) -> None:
    rig.write("evil.py", EVIL)
    rig.start_parser()
    rig.process()
    relayed = rig.dags()["support__evil"]["description"]
    rig.process_by_stock()
    stock = rig.dags()["support__evil"]["description"]
    assert isinstance(relayed, str)
    assert isinstance(stock, str)
    found, lost = (dict(eval(text)) for text in (relayed, stock))
    assert set(found.values()) == {0}, found
    assert lost["memory"] > 0, lost
    assert lost["parents"] > 0, lost


def test_misbehaving_files_are_stopped_and_reported_and_the_others_are_parsed(rig: Rig) -> None:
    head = "import os, sys, time  # airflow dag\n"
    rig.write("exits.py", head + "sys.exit(3)\n")
    rig.write("leaves.py", head + "os._exit(0)\n")
    rig.write("loops.py", head + "while True:\n    try:\n        while True: pass\n    except BaseException: pass\n")
    rig.write("sleeps.py", head + "time.sleep(1000)\n")
    rig.write("eats.py", head + "hoard = []\nwhile True: hoard.append(bytearray(10_000_000))\n")
    rig.write("forks.py", head + "while True:\n    try: os.fork()\n    except OSError: pass\n")
    rig.write(
        "escapes.py",
        head + "for _ in range(3):\n    if os.fork() == 0:\n        os.setsid()\n        if os.fork() == 0: time.sleep(1000)\n        os._exit(0)\n"
        + GOOD.format(team="support", name="escapes"),
    )  # fmt: skip
    rig.write("kills.py", head + "import signal; os.kill(os.getpid(), signal.SIGKILL)\n")
    rig.good("good")
    parser = rig.start_parser(KOMMUNA_PARSER_MEMORY="200Mi")
    rig.process(AIRFLOW__DAG_PROCESSOR__DAG_FILE_PROCESSOR_TIMEOUT="18")
    errors = rig.errors()
    assert "support__good" in rig.dags()
    assert "SystemExit: 3" in errors.pop("exits.py")
    assert "with exit code 0, before its DAGs were read" in errors.pop("leaves.py")
    assert "with signal 9" in errors.pop("kills.py")
    assert "took too long" in errors.pop("loops.py")
    assert "took too long" in errors.pop("sleeps.py")
    assert "MemoryError" in errors.pop("eats.py")
    assert "more than 64 processes" in errors.pop("forks.py")
    assert errors == {}
    left = [p for p in psutil.Process(parser.pid).children(recursive=True) if os.getsid(p.pid) != parser.pid]
    assert left == []
    assert parser.poll() is None


def test_an_unreachable_parser_is_an_import_error_and_removes_no_dag(rig: Rig) -> None:
    rig.good("here")
    parser = rig.start_parser()
    rig.process()
    assert rig.dags()["support__here"]["is_stale"] == 0
    parser.kill()
    parser.wait()
    rig.process(AIRFLOW__SCHEDULER__PARSING_CLEANUP_INTERVAL="0", AIRFLOW__DAG_PROCESSOR__STALE_DAG_THRESHOLD="0")
    text = rig.errors()["here.py"]
    assert text.startswith(f"the team's parser at localhost:{rig.port['support']} does not answer")
    assert "fix:" in text
    assert rig.dags()["support__here"]["is_stale"] == 0
    rig.start_parser()
    rig.process()
    assert rig.errors() == {}


def test_a_parser_killed_in_the_middle_of_a_file_is_reported_and_the_next_one_continues(rig: Rig) -> None:
    rig.good("here")
    parser = rig.start_parser()
    rig.process()
    mark = rig.folder / "began"
    rig.write(
        "here.py", f"import time; open({str(mark)!r}, 'w'); time.sleep(30)\n" + GOOD.format(team="support", name="here")
    )
    with running(lambda: rig.process()):
        wait_until("the file was parsed", mark.exists)
        parser.kill()
    assert "broke off" in rig.errors()["here.py"]
    assert rig.dags()["support__here"]["is_stale"] == 0
    rig.good("here")
    rig.start_parser()
    rig.process()
    assert rig.errors() == {}


def test_the_parser_keeps_working_after_a_file_kills_the_fork_server(rig: Rig) -> None:
    rig.write("a_kills.py", "import os, time  # airflow dag\nos.kill(os.getppid(), 9)\ntime.sleep(1)\n")
    rig.good("b_good")
    parser = rig.start_parser()
    rig.process(
        AIRFLOW__DAG_PROCESSOR__PARSING_PROCESSES="1", AIRFLOW__DAG_PROCESSOR__FILE_PARSING_SORT_MODE="alphabetical"
    )
    assert set(rig.dags()) == {"support__b_good"}
    assert set(rig.errors()) == {"a_kills.py"}
    assert parser.poll() is None


def test_a_busy_parser_is_retried_until_it_has_capacity(rig: Rig) -> None:
    for number in range(4):
        rig.write(
            f"slow{number}.py", "import time; time.sleep(1)\n" + GOOD.format(team="support", name=f"slow{number}")
        )
    rig.start_parser(KOMMUNA_PARSER_PROCESSES="1")
    rig.process(AIRFLOW__DAG_PROCESSOR__PARSING_PROCESSES="4")
    assert len(rig.dags()) == 4
    assert rig.errors() == {}
    assert "parser.refused why=busy" in (rig.folder / "parser-support.log").read_text()


def test_a_hostile_team_does_not_delay_another_team(rig: Rig) -> None:
    for number in range(4):
        rig.write(f"loop{number}.py", "while True: pass  # airflow dag\n")
    rig.start_parser()
    rig.start_parser("fraud")
    rig.process("fraud")  # makes the bundles known: two processors that begin at one time would both add them
    rig.good("mine", team="fraud")
    hostile = subprocess.Popen(
        [sys.executable, "-c", "from kommuna.airflow.isolation import processor; processor.run('support', max_runs=1)"],
        env=rig.environment(), cwd=rig.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        rig.process("fraud")
        assert "fraud__mine" in rig.dags()
        assert hostile.poll() is None, "the hostile team's files were not in the way at all"
    finally:
        hostile.send_signal(signal.SIGTERM)
        hostile.wait(timeout=30)


def result(*dags: dict[str, Any], **fields: Any) -> bytes:
    """Returns a REQUEST frame with a result, as a parser would send it."""
    body = {
        "type": "DagFileParsingResult",
        "fileloc": "x.py",
        "serialized_dags": [{"data": dag, "last_loaded": None} for dag in dags],
        "import_errors": {},
        "warnings": [],
    } | fields
    return frame(REQUEST, msgspec.msgpack.encode([1, body]))


class LyingParser(threading.Thread):
    """Speaks the protocol, and answers for each file with what the test gives it."""

    def __init__(self, rig: Rig, lies: dict[str, Callable[[socket.socket], None]]) -> None:
        super().__init__(daemon=True)
        self.lies = lies
        self.tokens: list[str] = []
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(rig.folder / "tls/tls.crt", rig.folder / "tls/tls.key")
        self._listener = socket.create_server(("127.0.0.1", rig.port["support"]))

    def run(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, plain: socket.socket) -> None:
        try:
            with self._context.wrap_socket(plain, server_side=True) as connection:
                self.tokens.append(json.loads(received(connection))["token"])
                connection.sendall(frame(READY, {"folder": "/x"}))
                self.lies[json.loads(received(connection))["file"]](connection)
        except OSError:
            pass


def received(connection: socket.socket) -> bytes:
    head = connection.recv(5)
    left, body = int.from_bytes(head[1:], "big"), b""
    while len(body) < left:
        body += connection.recv(left - len(body))
    return body


def test_a_lying_parser_only_harms_the_files_that_it_lies_about(rig: Rig) -> None:
    rig.good("true")
    rig.start_parser()
    rig.process()
    (data,) = rig.serialized().values()
    rig.stop()

    def dag(**fields: Any) -> dict[str, Any]:
        copy = json.loads(json.dumps(data))
        copy["dag"] |= fields
        return copy  # type: ignore[no-any-return]

    def saying(*frames: bytes) -> Callable[[socket.socket], None]:
        def say(connection: socket.socket) -> None:
            for one in frames:
                connection.sendall(one)
            connection.sendall(frame(END, {"how": "ended", "code": 0}))
            time.sleep(1)

        return say

    def drip(connection: socket.socket) -> None:
        for byte in result(dag()):
            connection.sendall(bytes([byte]))
            time.sleep(0.5)

    deep: Any = {}
    for _ in range(300):
        deep = {"a": deep}
    trigger = {"name": "w", "trigger": {"classpath": "subprocess.Popen", "kwargs": {}}}
    asset = {
        "__type": "asset",
        "name": "support__a",
        "uri": "support__a",
        "group": "",
        "extra": {},
        "watchers": [trigger],
    }
    hidden = dag()
    hidden["client_defaults"] = {"tasks": {"pool": "fraud__default"}}
    for task in hidden["dag"]["tasks"]:
        task["__var"].pop("pool")
    lies = {
        "other_team.py": (saying(result(dag(dag_id="fraud__x"))), "has the prefix of team 'fraud'"),
        "elsewhere.py": (saying(result(dag(fileloc="/proc/self/environ"))), None),
        "other_file.py": (saying(result(import_errors={"true.py": "gone"})), "gone"),
        "hidden_pool.py": (saying(result(hidden)), "uses the pool 'fraud__default'"),
        "popen.py": (saying(result(dag(timetable={"__type": "subprocess.Popen", "__var": {}}))), "names the type 'subprocess.Popen'"),
        "deadline.py": (saying(result(dag(deadline=[{"reference": {}, "interval": 1, "callback": {}}]))), "has a deadline"),
        "watcher.py": (saying(result(dag(timetable={"__type": "airflow.timetables.simple.AssetTriggeredTimetable", "__var": {"asset_condition": asset}}))), "has a watcher"),
        "script.py": (saying(result(dag(owner_links={"a": "javascript:alert(1)"}))), "links its owner"),
        "deep.py": (saying(result(dag(default_args=deep))), "not usable"),
        "many.py": (saying(result(*[dag(dag_id=f"support__{i}") for i in range(101)])), "101 DAGs"),
        "nan.py": (saying(result(dag(start_date=float("nan")))), "number that JSON does not allow"),
        "null.py": (saying(result(dag(description="a\0b"))), "null character"),
        "garbage.py": (saying(frame(REQUEST, b"\xff" * 100)), "a frame that is not Airflow's"),
        "noise.py": (lambda c: c.sendall(b"GET / HTTP/1.1\r\n\r\n" * 10), "unexpected frame b'G'"),
        "huge.py": (lambda c: c.sendall(REQUEST + (2**32 - 1).to_bytes(4, "big")), "in one frame"),
        "twice.py": (saying(result(dag()), result(dag())), "two results"),
        "chatty.py": (saying(*[frame(LOG, b"x" * 16_000)] * 20), "logged more than"),
        "silent.py": (saying(), "before its DAGs were read"),
        "schema.py": (saying(result(dag(tasks="none"))), "cannot be deserialised"),
        "overflow.py": (saying(result(dag(dagrun_timeout=1e12))), "dagrun_timeout of 1e+12 s"),
        "drip.py": (drip, "did not end in time"),
    }  # fmt: skip
    for name in lies:
        rig.write(name, "# airflow dag\n")
    truth = saying(result(data))
    liar = LyingParser(rig, {**{name: lie for name, (lie, _) in lies.items()}, "true.py": truth})
    liar.start()
    rig.process(AIRFLOW__DAG_PROCESSOR__DAG_FILE_PROCESSOR_TIMEOUT="20", AIRFLOW__DAG_PROCESSOR__PARSING_PROCESSES="4")
    errors = rig.errors()
    for name, (_, words) in lies.items():
        if words is not None:
            assert words in errors.get(name, ""), (name, errors.get(name))
    assert "true.py" not in errors
    dags = rig.dags()
    assert set(dags) == {"support__true"}
    # The one that claims another place is taken for what it is about, and its code is read from there alone.
    assert dags["support__true"]["fileloc"] in {
        str(rig.folder / "dags/support" / n) for n in ("elsewhere.py", "true.py")
    }
    assert dags["support__true"]["bundle_name"] == "support"
    assert set(liar.tokens) == {TOKEN}


def test_a_parser_without_the_platforms_certificate_gets_no_token(rig: Rig) -> None:
    rig.good("one")
    authority = (rig.folder / "tls/ca.crt").read_bytes()
    certify(rig.folder / "tls")
    liar = LyingParser(rig, {})
    (rig.folder / "tls/ca.crt").write_bytes(authority)
    liar.start()
    rig.process()
    assert "has no certificate of the platform" in rig.errors()["one.py"]
    assert liar.tokens == []


def test_the_parser_refuses_requests_without_its_token(rig: Rig) -> None:
    rig.good("one")
    rig.start_parser()
    (rig.folder / "token").write_text("another")
    rig.process()
    assert "refuses: the token does not match this parser" in rig.errors()["one.py"]
    assert rig.dags() == {}


def test_a_file_gets_the_variables_of_its_team_and_no_others(rig: Rig) -> None:
    with sqlite3.connect(rig.db) as connection:
        for key in ("support__colour", "fraud__colour"):
            connection.execute(
                "insert into variable (key, val, is_encrypted, team_name) values (?, ?, 0, ?)",
                (key, f"of {key}", key.partition("__")[0]),
            )
    rig.write(
        "asks.py",
        "from airflow.sdk import Variable\nfound = Variable.get('support__colour')\n"
        "try: found += ' ' + Variable.get('fraud__colour')\n"
        "except BaseException as error: found += ' refused'\n"
        + GOOD.format(team="support", name="asks").replace("schedule=None", "schedule=None, description=found"),
    )
    rig.start_parser()
    rig.process()
    assert rig.dags()["support__asks"]["description"] == "of support__colour refused"


def test_a_git_bundle_is_parsed_at_its_commit_and_links_are_ignored(rig: Rig) -> None:
    origin = rig.folder / "origin"
    git = ["git", "-C", str(origin), "-c", "user.name=t", "-c", "user.email=t@example.org"]
    origin.mkdir()
    (origin / "dags").mkdir()
    (origin / "dags/helper.py").write_text("NAME = 'first'\n")
    (origin / "dags/one.py").write_text(
        "import helper\n"
        + GOOD.format(team="support", name="one").replace("schedule=None", "schedule=None, description=helper.NAME")
    )
    (origin / "dags/linked.py").symlink_to("/proc/self/environ")
    for command in (["init", "-q", "-b", "main"], ["add", "."], ["commit", "-qm", "first"]):
        subprocess.run([*git, *command], check=True)
    rig.bundles["support"] |= {
        "classpath": "kommuna.airflow.bundles.TeamGitBundle",
        "kwargs": {"repo_url": str(origin), "tracking_ref": "main", "subdir": "dags"},
    }
    rig.start_parser()
    rig.process()
    assert {name: row["description"] for name, row in rig.dags().items()} == {"support__one": "first"}
    # What is not committed is not parsed, wherever it stands.
    (rig.folder / "bundles/support/tracking_repo/dags/helper.py").write_text("NAME = 'edited'\n")
    rig.process()
    assert rig.dags()["support__one"]["description"] == "first"
    assert rig.errors() == {}
    commit = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    assert [path.name for path in (rig.folder / "parser-support/bundles").iterdir()] == [commit]


def test_a_callback_runs_in_the_parser_and_waits_until_it_is_reachable(rig: Rig) -> None:
    mark = rig.folder / "called"
    with sqlite3.connect(rig.db) as connection:
        connection.execute(
            "insert into variable (key, val, is_encrypted, team_name) values ('support__colour', 'red', 0, 'support')"
        )
    rig.write(
        "calls.py",
        "def call(context):\n    from airflow.sdk import Variable\n    colour = Variable.get('support__colour')\n"
        f"    open({str(mark)!r}, 'w').write(colour)\n"
        + GOOD.format(team="support", name="calls").replace("schedule=None", "schedule=None, on_failure_callback=call"),
    )
    parser = rig.start_parser()
    rig.process()
    request = {
        "filepath": "calls.py", "bundle_name": "support", "bundle_version": None, "msg": "it failed",
        "dag_id": "support__calls", "run_id": "r", "is_failure_callback": True, "type": "DagCallbackRequest",
    }  # fmt: skip
    data = {"req_class": "DagCallbackRequest", "req_data": json.dumps(request)}
    script = (
        "import json, sys\nfrom airflow.callbacks.callback_requests import DagCallbackRequest\n"
        "from airflow.models.db_callback_request import DbCallbackRequest\n"
        "from airflow.utils.session import create_session\n"
        "with create_session() as s: s.add(DbCallbackRequest(priority_weight=1, callback=DagCallbackRequest.from_json(sys.argv[1])))\n"
    )
    subprocess.run([sys.executable, "-c", script, data["req_data"]], env=rig.environment(), check=True)
    parser.kill()
    parser.wait()
    processor = subprocess.Popen(
        [sys.executable, "-m", "kommuna.airflow.isolation.processor", "support"],
        env=rig.environment(), cwd=rig.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        wait_until("the call is refused", lambda: "calls.py" in rig.errors())
        assert not mark.exists()
        parser = rig.start_parser()
        wait_until("the variable was read", lambda: mark.exists() and mark.read_text() == "red")
    finally:
        processor.send_signal(signal.SIGTERM)
        processor.wait(timeout=30)
    assert rig.dags()["support__calls"]["is_stale"] == 0


def test_a_slow_connection_ends_at_its_deadline() -> None:
    ours, theirs = socket.socketpair()
    theirs.sendall(REQUEST)
    from kommuna.airflow.isolation.wire import Closed

    with pytest.raises(Closed, match="did not end in time"):
        Wire(ours, time.monotonic() + 0.2).receive()


class running:  # reads as `with running(…)`
    """Runs something in parallel with the block, and waits for it at the end."""

    def __init__(self, work: Callable[[], object]) -> None:
        self._thread = threading.Thread(target=work)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._thread.join()
