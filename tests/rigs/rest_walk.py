"""The walk of Airflow's REST API: every endpoint, with bodies made from the server's own OpenAPI document."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import requests
from jsonschema import Draft202012Validator
from tests.rigs.walk import Job, filled

from kommuna.airflow.server.people.routes import TABLE

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
_LEFT_OUT = ("/execution", "/auth/", "/static", "/api/v2/auth/logout")  # walked elsewhere, or it ends the session
_ENTITIES = {
    "variables": "variable_key", "connections": "connection_id", "pools": "pool_name", "dagRuns": "dag_run_id",
    "taskInstances": "task_id",
}  # fmt: skip
_CHOICES = 3  # bodies of a bulk request: create, update and delete
# Fields that have the same value in all bodies, unless they are ids.
_FIELDS = {
    "conn_type": "http", "slots": 1, "is_paused": True, "logical_date": None, "state": "failed", "new_state": "failed",
    "note": "was here", "dry_run": False, "include_deferred": False, "value": "1", "dag_run_conf": None,
    "from_date": "2026-01-01T00:00:00Z", "to_date": "2026-01-02T00:00:00Z", "only_failed": False,
    "chosen_options": ["Approve"], "dag_run": {},
}  # fmt: skip
_PRIMITIVES: dict[str, Any] = {"string": "x", "integer": 1, "number": 1, "boolean": False, "object": {}, "null": None}


class Document:
    """The running server's OpenAPI document.

    Args:
        url: the server's address.
        token: of somebody who may read it.
    """

    def __init__(self, url: str, token: str) -> None:
        answer = requests.get(f"{url}/openapi.json", headers={"Authorization": f"Bearer {token}"}, timeout=60)
        answer.raise_for_status()
        self._document = answer.json()
        self.endpoints: dict[str, set[str]] = {}  # methods by path, those that only the guard's table has included
        for path, operations in self._document["paths"].items():
            self.endpoints.setdefault(path, set()).update(name.upper() for name in operations)
        for row in TABLE:
            if row.path.startswith(("/api/v2/", "/ui/", "/kommuna/")):
                self.endpoints.setdefault(row.path.replace(":path", ""), set()).add(row.method)
        for path in [path for path in self.endpoints if path.startswith(_LEFT_OUT)]:
            del self.endpoints[path]

    def jobs(self, ids: Mapping[str, Any], *, all_methods: bool) -> Iterator[Job]:
        """Yields a request to each endpoint.

        Args:
            ids: a value for each name in a template, usually of another team; `~` is tried for DAGs and runs, too.
            all_methods: also those that an endpoint does not have.
        """
        for path, known in sorted(self.endpoints.items()):
            of_path = {**ids, **(ids["of_hitl"] if "hitl" in path else {})}
            for method in METHODS if all_methods else sorted(known):
                for by in [of_path, {**of_path, "dag_id": "~", "dag_run_id": "~"}] if "{dag_id}" in path else [of_path]:
                    for body in self.bodies(method, path, of_path):
                        options = {} if method == "GET" else {"json": body}
                        yield Job(method, path, filled(path, by), options)

    def bodies(self, method: str, path: str, ids: Mapping[str, Any]) -> list[Any]:
        """Returns bodies that fit an endpoint's schema, with the ids in the fields of their names; `{}` without one."""
        schema = self._schema(method, path)
        if schema is None:
            return [{}]
        entity = ids.get(_ENTITIES.get(path.rpartition("/")[2], ""), "x")
        fields = {**_FIELDS, **ids, "entity": entity, **(ids["new"] if method == "POST" else {})}
        found = [self._value(schema, fields, "", choice) for choice in range(_CHOICES)]
        return [json.loads(text) for text in dict.fromkeys(map(json.dumps, found))]

    def _schema(self, method: str, path: str) -> Any:
        operation = self._document["paths"].get(path, {}).get(method.lower(), {})
        return operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")

    def misfits(self, ids: Mapping[str, Any]) -> list[str]:
        """Returns the endpoints whose bodies do not fit the document: nobody is refused for what they may not do there."""
        found = []
        for path, known in self.endpoints.items():
            for method in known:
                schema = self._schema(method, path)
                if schema is not None:
                    judge = Draft202012Validator({**schema, "components": self._document["components"]})
                    found += [
                        f"{method} {path}: {body}"
                        for body in self.bodies(method, path, ids)
                        if not judge.is_valid(body)
                    ]
        return found

    def _value(self, schema: Mapping[str, Any], fields: Mapping[str, Any], name: str, choice: int) -> Any:
        if "$ref" in schema:
            place: Any = self._document
            for key in schema["$ref"].removeprefix("#/").split("/"):
                place = place[key]
            return self._value(place, fields, name, choice)
        options = schema.get("anyOf") or schema.get("oneOf") or ()
        if name in fields and "properties" not in schema:
            types = {one.get("type") for one in (schema, *options)}
            value, takes_list = fields[name], "array" in types and "string" not in types
            return [value] if takes_list and not isinstance(value, list) else value
        if options:
            some = [one for one in options if one.get("type") != "null"]
            return self._value(some[choice % len(some)], fields, name, choice)
        if "const" in schema or "enum" in schema:
            return schema.get("const", schema.get("enum", [None])[0])
        if schema.get("type") == "array":
            return [self._value(schema["items"], fields, _singular(name), choice)]
        if "properties" in schema:
            required = schema.get("required", ())
            return {
                key: self._value(one, fields, key, choice)
                for key, one in schema["properties"].items()
                if key in required or key in fields or _singular(key) in fields
            }
        return (
            "2026-01-01T00:00:00Z" if schema.get("format") == "date-time" else _PRIMITIVES[schema.get("type", "object")]
        )


def _singular(name: str) -> str:
    return {"entities": "entity"}.get(name, name.removesuffix("s"))
