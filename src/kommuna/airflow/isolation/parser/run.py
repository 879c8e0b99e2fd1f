"""Runs one file: starts its process, passes frames between it and the processor, and enforces the limits."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import time
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import msgspec

from kommuna.airflow.isolation.parser import child, processes
from kommuna.airflow.isolation.wire import (
    END,
    LOG,
    MAX_ANSWER,
    MAX_LOG_LINE,
    MAX_LOGS,
    REPLY,
    REQUEST,
    BadFrame,
    Closed,
    frame,
    receive,
)
from kommuna.processes import tree_of

MAX_TREE = 64
WATCH_SECONDS = 0.2


class FileRun:
    """Parses one file and forwards its process's messages to the processor, until the process ends or is killed.

    Args:
        forks: the warm fork server.
        request: `file` (relative to the bundle), `original` (its path at the processor), `bundle_name`, `callbacks`.
        folder: the bundle's folder.
        limits: limits of the file's process.
        reader: receives frames of the processor.
        writer: sends frames to the processor.
    """

    def __init__(
        self,
        forks: ForkServerContext,
        request: dict[str, Any],
        folder: Path,
        limits: child.ParseLimits,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._forks = forks
        self._request = request
        self._folder = folder
        self._limits = limits
        self._reader = reader
        self._writer = writer
        self._ended_for = ""
        self._logs_left = MAX_LOGS

    async def run(self) -> None:
        """Runs the process to its end and sends END."""
        requests, their_requests = socket.socketpair()
        output, their_output = socket.socketpair()
        logs, their_logs = socket.socketpair()
        process = self._forks.Process(
            target=child.parse,
            args=(their_requests, their_output, their_logs, self._folder, self._request["original"], self._limits),
            daemon=True,
        )
        process.start()
        for end in (their_requests, their_output, their_logs):
            end.close()
        pid = process.pid or 0
        from_child, to_child = await asyncio.open_connection(sock=requests)
        pumps = [
            asyncio.create_task(self._forward_requests(from_child)),
            asyncio.create_task(self._forward_lines(output, "stdout")),
            asyncio.create_task(self._forward_lines(logs, "")),
        ]
        replies = asyncio.create_task(self._forward_replies(to_child, pid))
        try:
            to_child.write(self._first_frame())
            await self._watch(process, pid)
            _, pending = await asyncio.wait(pumps, timeout=5)
            for pump in (*pending, replies):
                pump.cancel()
            how = {"how": self._ended_for or "ended", "code": process.exitcode}
            self._writer.write(frame(END, how))
            with contextlib.suppress(OSError):
                await self._writer.drain()
        finally:
            await asyncio.to_thread(processes.end_all, pid)
            for task in (*pumps, replies):
                task.cancel()
            to_child.close()

    def _first_frame(self) -> bytes:
        """Encodes the request as Airflow's own processor would send it."""
        request = {
            "type": "DagFileParseRequest",
            "file": str(self._folder / self._request["file"]),
            "bundle_path": str(self._folder),
            "bundle_name": self._request["bundle_name"],
            "callback_requests": self._request.get("callbacks", []),
        }
        body = msgspec.msgpack.encode([0, request])
        return len(body).to_bytes(4, "big") + body

    async def _watch(self, process: BaseProcess, pid: int) -> None:
        """Waits for the process to end, and kills it when it exceeds a limit."""
        deadline = time.monotonic() + self._limits.seconds
        ended = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_reader(process.sentinel, ended.set)
        try:
            while not ended.is_set():
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(ended.wait(), WATCH_SECONDS)
                if time.monotonic() > deadline:
                    self._ended_for = self._ended_for or "time"
                elif len(await asyncio.to_thread(tree_of, pid)) > MAX_TREE:
                    self._ended_for = self._ended_for or "processes"
                if self._ended_for:
                    break
        finally:
            loop.remove_reader(process.sentinel)
        await asyncio.to_thread(processes.end_all, pid)
        await asyncio.to_thread(process.join, 5)

    async def _forward_requests(self, reader: asyncio.StreamReader) -> None:
        """Forwards frames of Airflow's protocol from the file's process to the processor."""
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            while True:
                length = int.from_bytes(await reader.readexactly(4), "big")
                if length > MAX_ANSWER:
                    self._ended_for = "answer"
                    return
                self._writer.write(frame(REQUEST, await reader.readexactly(length)))
                await self._writer.drain()

    async def _forward_replies(self, to_child: asyncio.StreamWriter, pid: int) -> None:
        """Forwards the processor's replies to the file's process. If the processor is gone, the run is cancelled."""
        try:
            while True:
                kind, payload = await receive(self._reader)
                if kind != REPLY:
                    raise BadFrame(f"unexpected frame {kind!r} while a file is parsed")
                to_child.write(len(payload).to_bytes(4, "big") + payload)
                await to_child.drain()
        except (Closed, BadFrame, OSError):
            self._ended_for = self._ended_for or "gone"

    async def _forward_lines(self, connection: socket.socket, stream: str) -> None:
        """Forwards lines that the file's process logs (as JSON) or prints, up to the limits."""
        reader, writer = await asyncio.open_connection(sock=connection, limit=MAX_LOG_LINE)
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            while line := await _next_line(reader):
                if stream:
                    text = line.decode(errors="replace").rstrip()[: MAX_LOG_LINE // 8]
                    line = json.dumps({"event": text, "level": "info", "logger": f"dag_processor.{stream}"}).encode()
                if self._logs_left > 0 and len(line) <= MAX_LOG_LINE:
                    self._logs_left -= len(line)
                    self._writer.write(frame(LOG, line))
                    await self._writer.drain()
        writer.close()


async def _next_line(reader: asyncio.StreamReader) -> bytes:
    """Returns the next line, an empty line for one that is too long, or nothing at the end."""
    try:
        return await reader.readline()
    except ValueError:  # longer than the limit: the buffered part is dropped
        return b"\n"
