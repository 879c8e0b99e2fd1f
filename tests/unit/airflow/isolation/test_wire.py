"""The frames between the two halves: unexpected or oversized frames are refused before they are read."""

from __future__ import annotations

import socket
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kommuna.airflow.isolation.wire import (
    BUNDLE,
    END,
    HEADER,
    LOG,
    MAX_LOG_LINE,
    REQUEST,
    TO_PARSER,
    TO_PROCESSOR,
    BadFrame,
    Closed,
    Wire,
    fields_of,
    frame,
    header_of,
)


@given(st.sampled_from(sorted(TO_PROCESSOR)), st.binary(max_size=100))
def test_a_frame_survives_encoding_and_decoding(kind: bytes, payload: bytes) -> None:
    payload = payload[: TO_PROCESSOR[kind]]
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(frame(kind, payload))
        assert Wire(ours, time.monotonic() + 5).receive() == (kind, payload)


def test_a_frame_too_long_for_its_kind_is_refused_before_memory_is_taken() -> None:
    assert header_of(frame(LOG, b"x" * MAX_LOG_LINE)[:HEADER], TO_PROCESSOR) == (LOG, MAX_LOG_LINE)
    with pytest.raises(BadFrame, match="more than 16,384"):
        header_of(LOG + (MAX_LOG_LINE + 1).to_bytes(4, "big"), TO_PROCESSOR)


def test_a_frame_of_the_other_direction_is_refused() -> None:
    with pytest.raises(BadFrame, match="unexpected frame b'B'"):
        header_of(frame(BUNDLE)[:HEADER], TO_PROCESSOR)
    with pytest.raises(BadFrame, match="unexpected frame b'A'"):
        header_of(frame(REQUEST)[:HEADER], TO_PARSER)


@pytest.mark.parametrize("payload", [b"", b"[]", b"{", b"\xff", b"[" * 5000])
def test_a_payload_that_is_not_a_json_object_is_reported(payload: bytes) -> None:
    with pytest.raises(BadFrame, match="JSON"):
        fields_of(payload)


def test_an_end_in_the_middle_of_a_frame_is_reported() -> None:
    ours, theirs = socket.socketpair()
    theirs.sendall(frame(END, b"{}")[:4])
    theirs.close()
    with ours, pytest.raises(Closed, match="closed the connection"):
        Wire(ours, time.monotonic() + 5).receive()


def test_a_slow_peer_is_not_waited_for_beyond_the_deadline() -> None:
    ours, theirs = socket.socketpair()
    over = threading.Event()

    def drip() -> None:
        for byte in frame(REQUEST, b"x" * 10_000):
            if over.wait(0.01):
                return
            theirs.sendall(bytes([byte]))

    dripping = threading.Thread(target=drip)
    dripping.start()
    with pytest.raises(Closed, match="did not end in time"):
        Wire(ours, time.monotonic() + 0.3).receive()
    over.set()
    dripping.join()
    ours.close()
    theirs.close()


def test_a_peer_that_does_not_read_is_not_waited_for() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, pytest.raises(Closed, match="stopped reading"):
        Wire(ours, time.monotonic() + 0.2).send(BUNDLE, b"x" * 10_000_000)
