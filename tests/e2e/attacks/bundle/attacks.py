"""Tasks of the hostile team support. Each attempt of a task is a line: what it tried, what refused it, and the answer."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import requests
from airflow.sdk import task
from task_attacks import FOREIGN, NOW, REPORTS, Attacker, seen

from kommuna.airflow import TeamDag

API = "http://kommuna-api-server.kommuna.svc:8080"
MLFLOW = "http://kommuna-mlflow.kommuna.svc:5000"
STORE = "http://minio.fixtures.svc:9000"
SMALL = {"resources": {"cpu": "500m", "memory": "768Mi"}}
OVERTIME = 30  # seconds: after an end the token works for 25 more
Line = dict[str, Any]


def line(attack: str, layer: str, refused: bool, evidence: object) -> Line:
    """Makes a line, with the end of the evidence."""
    return {"attack": attack, "layer": layer, "refused": refused, "evidence": str(evidence).strip()[-300:]}


def judged(attack: str, layer: str, answer: requests.Response, *statuses: int) -> Line:
    """Makes a line of an answer of the guard, which says why it refuses; Airflow's own refusals do not count."""
    said = answer.request.method == "HEAD" or "message" in answer.text
    return line(attack, layer, answer.status_code in statuses and said, f"{answer.status_code} {answer.text}")


DEFAULTS: dict[str, Any] = {"schedule": None, "default_args": {"retries": 0, "executor_config": SMALL}}

with TeamDag("asks", **DEFAULTS):

    @task
    def asks(ti: Any = None, dag_run: Any = None) -> dict[str, Any]:
        """Walks the Execution API with this task's token, and gives the token to another task."""
        own = Attacker(API, seen(ti))
        own.start()
        known = {"run": dag_run.conf["victim"], "other": dag_run.conf["other"], "own": own.id}
        lines = []
        for method, path, body, status in FOREIGN:
            answer = own.ask(method, path.format(**known), body)
            lines.append(judged(f"{method} /execution/{path}", "guard", answer, status))
        head, claims, _ = own.token.split(".")
        for what, token, status in (
            ("the token that starts a task, used to read", own.seen["token"], 403),
            ("a token with a forged signature", f"{head}.{claims}.x", 403),
            ("a token that is none", "x", 403),
        ):
            lines.append(judged(what, "guard", own.ask("GET", "variables/keys", token=token), status))
        large = f"xcoms/support__asks/{ti.run_id}/asks/large"
        lines.append(judged("an XCom of 5 MB", "body limit", own.ask("POST", large, "x" * 5_000_000), 413))
        return {"lines": lines, "token": own.token, "seen": own.seen}

    @task
    def comes_later(stolen: dict[str, Any], ti: Any = None) -> dict[str, Any]:
        """Uses the token of a task that has ended."""
        time.sleep(OVERTIME)
        ended = Attacker(API, stolen["seen"])
        ended.token = stolen["token"]
        beat = {"hostname": ended.seen["hostname"], "pid": ended.seen["pid"]}
        lines = [
            judged(f"{method} /execution/{path} with the token of an ended task", "guard", ended.ask(method, path, body), 409)
            for method, path, body in (
                ("GET", "variables/support__own", None),
                ("PUT", "variables/support__own", {"value": "3"}),
                ("GET", "variables/keys", None),
                ("GET", "dags/support__asks", None),
                ("POST", "dag-runs/support__asks/made", {}),
                ("POST", f"xcoms/support__asks/{ti.run_id}/asks/late", 1),
                ("PATCH", f"task-instances/{ended.id}/state", {"state": "failed", "end_date": NOW}),
                ("PUT", f"task-instances/{ended.id}/rtif", {}),
                ("PUT", f"task-instances/{ended.id}/heartbeat", beat),
                ("POST", f"hitlDetails/{ended.id}", {"ti_id": ended.id, "options": ["x"], "subject": "x"}),
            )
        ]  # fmt: skip
        again = ended.start()
        lines.append(judged("an ended task is started again", "guard", again, 409))
        renewed = "Refreshed-API-Token" in again.headers
        lines.append(line("an ended task's token is renewed", "guard", not renewed, f"renewed: {renewed}"))
        return {"lines": lines}

    comes_later(asks())

with TeamDag("reports", **DEFAULTS):

    @task
    def reports(ti: Any = None) -> None:
        """Reports what the control plane would import, construct or write; the first refused report fails the task."""
        own = Attacker(API, seen(ti))
        own.start()
        for body in REPORTS:
            answer = own.ask("PATCH", f"task-instances/{own.id}/state", body)
            what = f"a task reports {json.dumps(body)[:100]}"
            print("LINE", json.dumps(judged(what, "guard", answer, 403, 409)))
        time.sleep(600)

    reports()

with TeamDag("looks", **DEFAULTS):

    @task
    def looks_around(dag_run: Any = None) -> dict[str, Any]:
        """Tries the network, the store, the registry and the pod's own files."""
        conf = dag_run.conf
        return {"lines": [*connects(conf["places"]), *stores(conf["object"]), *registers(conf), *looks()]}

    looks_around()


def connects(places: list[list[Any]]) -> list[Line]:
    """Connects to addresses; the policies of a new pod may take a few seconds, so it tries for longer."""

    def reach(place: list[Any]) -> Line:
        name, host, port = place
        found = ""
        for _ in range(3):
            try:
                socket.create_connection((host, port), timeout=4).close()
                found = "open"
            except OSError as error:
                found = type(error).__name__
        return line(f"a task connects to {name}", "NetworkPolicy", found != "open", found)

    return list(ThreadPoolExecutor(len(places)).map(reach, places))


def stores(theirs: str) -> list[Line]:
    """Uses the worker's own login to the store."""
    import s3fs

    files = s3fs.S3FileSystem(endpoint_url=STORE)
    own = "kommuna/teams/support/attacked.txt"
    files.pipe_file(own, b"x")
    tries: dict[str, Callable[[], Any]] = {
        "read an object of another team": lambda: files.cat_file(theirs),
        "list another team's objects": lambda: files.ls("kommuna/teams/fraud/inbox"),
        "list all teams' objects": lambda: files.ls("kommuna/teams"),
        "list the bucket": lambda: files.ls("kommuna"),
        "write an object of another team": lambda: files.pipe_file("kommuna/teams/fraud/inbox/attack", b"x"),
        "overwrite an object of another team": lambda: files.pipe_file(theirs, b"x"),
        "delete an object of another team": lambda: files.rm_file(theirs),
        "copy another team's object to one's own": lambda: files.cp_file(theirs, own),
        "copy one's own object to another team": lambda: files.cp_file(own, "kommuna/teams/fraud/inbox/attack"),
        "write another team's code": lambda: files.pipe_file("kommuna/teams/fraud/code/x/objects.pack", b"x"),
        "write into a prefix that begins with the team's name": lambda: files.pipe_file("kommuna/teams/support2/x", b"x"),
        "list the registry's models": lambda: files.ls("kommuna/mlflow"),
        "make a bucket": lambda: files.mkdir("attack"),
    }  # fmt: skip
    lines = []
    for what, action in tries.items():
        files.invalidate_cache()
        try:
            lines.append(line(what, "S3 policy", False, action()))
        except Exception as error:
            lines.append(
                line(what, "S3 policy", isinstance(error, PermissionError), f"{type(error).__name__}: {error}")
            )
    return lines


def registers(conf: dict[str, Any]) -> list[Line]:
    """Uses the worker's own login to the registry."""
    login = (os.environ["MLFLOW_TRACKING_USERNAME"], os.environ["MLFLOW_TRACKING_PASSWORD"])

    def call(
        method: str, path: str, body: Any = None, workspace: str = "support", auth: Any = login
    ) -> requests.Response:
        headers = {"X-MLFLOW-WORKSPACE": workspace} if workspace else {}
        options = {"params": body} if method == "GET" else {"json": body}
        return requests.request(method, f"{MLFLOW}{path}", headers=headers, auth=auth, timeout=60, **options)

    old, new = "/api/2.0/mlflow", "/api/3.0/mlflow"
    call("POST", f"{old}/registered-models/create", {"name": "attack"})
    lines = []
    for method, path, body in (
        ("GET", f"{old}/experiments/search", {"max_results": 10}),
        ("POST", f"{old}/experiments/create", {"name": "attack"}),
        ("GET", f"{old}/registered-models/search", {}),
        ("POST", f"{old}/registered-models/create", {"name": "attack"}),
        ("GET", f"{old}/registered-models/get", {"name": conf["model"]}),
        ("DELETE", f"{old}/registered-models/delete", {"name": conf["model"]}),
        ("GET", f"{old}/registered-models/alias", {"name": conf["model"], "alias": "champion"}),
        ("POST", f"{old}/registered-models/alias", {"name": conf["model"], "alias": "champion", "version": "1"}),
        ("POST", f"{old}/model-versions/create", {"name": conf["model"], "source": "mlflow-artifacts:/x"}),
        ("GET", "/api/2.0/mlflow-artifacts/artifacts", {"path": "0"}),
        ("PUT", "/api/2.0/mlflow-artifacts/artifacts/0/attack", {}),
        ("POST", "/ajax-api/3.0/mlflow/demo/generate", {}),  # open to every login, says MLflow
    ):
        answer = call(method, path, body, "fraud")
        what = f"{method} {path} of another team's workspace"
        refused = answer.status_code == 403 or (path.endswith("/search") and answer.json() == {})
        lines.append(line(what, "MLflow", refused, f"{answer.status_code} {answer.text}"))
    for method, path, body in (
        ("POST", f"{old}/users/create", {"username": "attack", "password": "attack-attack"}),
        ("PATCH", f"{old}/users/update-admin", {"username": login[0], "is_admin": True}),
        ("PATCH", f"{old}/users/update-password", {"username": "fraud", "password": "attack-attack"}),
        ("GET", f"{old}/users/get", {"username": "fraud"}),
        ("DELETE", f"{old}/users/delete", {"username": "fraud"}),
        ("POST", f"{new}/workspaces", {"name": "attack"}),
        ("DELETE", f"{new}/workspaces/fraud", None),
    ):
        answer = call(method, path, body)
        what = f"{method} {path} by a team"
        lines.append(line(what, "MLflow", answer.status_code in (401, 403), f"{answer.status_code} {answer.text}"))
    for source in (
        "s3://kommuna/mlflow/workspaces/fraud/0/models",
        f"s3://{conf['object']}",
        "mlflow-artifacts:/workspaces/fraud/0/models",
        "mlflow-artifacts:/workspaces/support/../fraud/0/models",
        "https://elsewhere.example/model",
        "file:///etc",
        "/etc",
    ):
        answer = call("POST", f"{old}/model-versions/create", {"name": "attack", "source": source})
        refused = answer.status_code == 400 and "Invalid model version source" in answer.text
        what = f"a model version with the source {source}"
        lines.append(line(what, "MLflow source rule", refused, f"{answer.status_code} {answer.text}"))
    logged = call(
        "POST",
        f"{old}/model-versions/create",
        {"name": "attack", "source": f"models:/{conf['logged']}"},
    )
    evidence = f"{logged.status_code} {logged.text}"
    lines.append(line("a model version of another team's logged model", "MLflow", logged.status_code == 403, evidence))
    nobody = call("GET", f"{old}/experiments/search", {"max_results": 10}, "fraud", None)
    lines.append(line("the registry without a login", "MLflow", nobody.status_code == 401, nobody.status_code))
    return lines


def looks() -> list[Line]:
    """Looks for credentials in the pod."""
    token = Path("/var/run/secrets/kubernetes.io/serviceaccount/token").exists()
    text = " ".join(
        path.read_bytes().decode(errors="replace")
        for path in (one / "environ" for one in Path("/proc").iterdir() if one.name.isdigit())
        if os.access(path, os.R_OK)
    )
    words = [word for word in ("SQL_ALCHEMY", "FERNET", "JWT_SECRET", "postgresql", "__GIT") if word in text]
    written = [path for path in ("/opt/kommuna", "/opt/venv", "/etc", "/usr") if os.access(path, os.W_OK)]
    return [
        line("a task reads a token of the Kubernetes API", "worker pod", not token, f"token: {token}"),
        line("a task reads the platform's secrets in environments", "worker pod", not words, words),
        line("a task changes the platform's code in its pod", "worker pod", not written, written),
    ]
