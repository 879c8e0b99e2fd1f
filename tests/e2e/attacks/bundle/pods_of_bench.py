"""Tasks of the hostile team bench, whose workers hold a token that may start pods in the team's namespace."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import requests
from airflow.sdk import task

from kommuna.airflow import TeamDag

URL = "https://kubernetes.default.svc"
OWN = "kommuna-bench"
MOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
NAMED = "apis/networking.k8s.io/v1/namespaces"
RIGHTS = [
    ("GET", f"api/v1/namespaces/{OWN}/secrets", None),
    ("GET", f"api/v1/namespaces/{OWN}/secrets/worker", None),
    ("GET", "api/v1/namespaces/kommuna/secrets/kommuna-keys", None),
    ("GET", "api/v1/namespaces/kommuna-fraud/pods", None),
    ("POST", "api/v1/namespaces/kommuna-fraud/pods", {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}}),
    ("POST", "api/v1/namespaces/kommuna/pods", {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}}),
    ("GET", "api/v1/nodes", None),
    ("GET", "api/v1/namespaces", None),
    ("DELETE", f"{NAMED}/{OWN}/networkpolicies/default-deny", None),
    ("DELETE", f"api/v1/namespaces/{OWN}/resourcequotas/tasks", None),
    ("PATCH", f"api/v1/namespaces/{OWN}", {"metadata": {"labels": {"kommuna/team": "fraud"}}}),
    ("DELETE", "apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings/kommuna-team-pods", None),
    ("PATCH", f"apis/apps/v1/namespaces/{OWN}/deployments/parser", {"metadata": {"labels": {"a": "b"}}}),
    ("POST", f"api/v1/namespaces/{OWN}/serviceaccounts/worker/token", {}),
]

with TeamDag("attacks", schedule=None, default_args={"retries": 0}):

    @task
    def asks() -> dict[str, Any]:
        """Asks the Kubernetes API with the mounted token."""
        head = {"Authorization": f"Bearer {(MOUNT / 'token').read_text()}"}
        lines = []

        def call(method: str, path: str, body: Any) -> requests.Response:
            kind = {"Content-Type": "application/merge-patch+json"} if method == "PATCH" else {}
            return requests.request(
                method, f"{URL}/{path}", json=body, headers=head | kind, verify=str(MOUNT / "ca.crt"), timeout=30
            )

        assert call("GET", f"api/v1/namespaces/{OWN}/pods", None).status_code == 200
        for method, path, body in RIGHTS:
            answer = call(method, path, body)
            refused = answer.status_code == 403 and "forbidden" in answer.text.lower()
            lines.append(
                {"attack": f"{method} /{path}", "layer": "RBAC", "refused": refused, "evidence": answer.text[-300:]}
            )
        return {"lines": lines}

    asks()
