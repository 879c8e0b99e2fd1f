"""OpenAI's files and batches of the scripted LLM server: a batch ends after some looks at it, as a test says."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.rigs.llm_server import Fault, Handler


@dataclass
class BatchDesk:
    """Files and batches.

    Args:
        polls: how often a batch is looked at before it has ended.
        ends: its last status.
        answered: how many of its requests are answered, the first ones; None is all.
        instead: a custom id to the result that is written instead of an answer.
        faults: what goes wrong with the next calls about files and batches, in order; None is nothing.
        lost: how many batches are created without a response.
        batches: by id.
        files: content by id.
        deleted: the ids of deleted files.
    """

    polls: int = 1
    ends: str = "completed"
    answered: int | None = None
    instead: Callable[[str], dict[str, Any] | None] = lambda _: None
    faults: list[Fault | None] = field(default_factory=list)
    lost: int = 0
    batches: dict[str, dict[str, Any]] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    deleted: list[str] = field(default_factory=list)
    looks: dict[str, int] = field(default_factory=dict)

    def handle(self, handler: Handler, body: bytes) -> bool:
        """Answers a call about files and batches; returns False for any other one."""
        path = handler.path.partition("?")[0].removeprefix("/v1/").split("/")
        if path[0] not in ("files", "batches"):
            return False
        fault = self.faults.pop(0) if self.faults else None
        if fault is not None and fault(handler):
            return True
        match handler.command, *path:
            case "POST", "files":
                name = self._stored(_uploaded(body))
                reply(handler, {"id": name, "object": "file", "bytes": 1, "created_at": 0, "filename": "x",
                                "purpose": "batch", "status": "processed"})  # fmt: skip
            case "GET", "files", name, "content" if name in self.files:
                handler.send(200, self.files[name], {"Content-Type": "application/octet-stream"})
            case "DELETE", "files", name if name in self.files:
                self.deleted.append(name)
                reply(handler, {"id": name, "object": "file", "deleted": True})
            case "POST", "batches":
                self._created(handler, json.loads(body))
            case "GET", "batches":
                reply(handler, {"object": "list", "data": list(self.batches.values()), "has_more": False})
            case "GET", "batches", name if name in self.batches:
                reply(handler, self._looked_at(handler, self.batches[name]))
            case _:
                handler.send(404, b'{"error": {"message": "no such thing", "code": "not_found"}}')
        return True

    def _stored(self, content: bytes) -> str:
        name = f"file-{len(self.files)}"
        self.files[name] = content
        return name

    def _created(self, handler: Handler, wanted: dict[str, Any]) -> None:
        name = f"batch_{len(self.batches)}"
        self.batches[name] = {
            "id": name, "object": "batch", "created_at": 0, "status": "validating", **wanted,
        }  # fmt: skip
        if self.lost:
            self.lost -= 1
            handler.close_connection = True
            return
        reply(handler, self.batches[name])

    def _looked_at(self, handler: Handler, batch: dict[str, Any]) -> dict[str, Any]:
        name = batch["id"]
        self.looks[name] = self.looks.get(name, 0) + 1
        if self.looks[name] <= self.polls:
            batch["status"] = "in_progress"
        elif batch["status"] != self.ends:
            batch["status"] = self.ends
            self._answer(handler, batch)
        return batch

    def _answer(self, handler: Handler, batch: dict[str, Any]) -> None:
        if self.ends == "failed":
            batch["errors"] = {"object": "list", "data": [{"code": "x", "message": "too many tokens are enqueued"}]}
            return
        results: dict[str, list[dict[str, Any]]] = {"output_file_id": [], "error_file_id": []}
        lines = [json.loads(line) for line in self.files[batch["input_file_id"]].splitlines()]
        for line in lines[: self.answered]:
            result = self.instead(line["custom_id"])
            if result is None:
                handler.request_body = line["body"]
                body = handler.completion(json.dumps(handler.plain_answer()))
                result = {"response": {"status_code": 200, "request_id": "x", "body": body}, "error": None}
            response = result["response"]
            succeeded = isinstance(response, dict) and response["status_code"] == 200
            result = {"id": "x", "custom_id": line["custom_id"]} | result
            results["output_file_id" if succeeded else "error_file_id"].append(result)
        if self.ends == "expired":
            results["error_file_id"] += [
                {"id": "x", "custom_id": line["custom_id"], "response": None, "error": {"code": "batch_expired"}}
                for line in lines[self.answered :]
            ]
        for kind, found in results.items():
            batch[kind] = self._stored("".join(json.dumps(one) + "\n" for one in found).encode()) if found else None


def reply(handler: Handler, body: dict[str, Any]) -> None:
    handler.send(200, json.dumps(body).encode())


def _uploaded(body: bytes) -> bytes:
    """Returns the file of a form."""
    boundary = body.partition(b"\r\n")[0]
    part = next(part for part in body.split(boundary) if b'name="file"' in part)
    return re.split(rb"\r\n\r\n", part, maxsplit=1)[1].removesuffix(b"\r\n")
