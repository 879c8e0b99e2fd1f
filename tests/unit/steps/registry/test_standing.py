"""What holds a champion: a pin, or a move by hand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from kommuna.steps.registry.standing import Decision, Pin, Standing, history_of, history_text, pin_of


def test_a_pin_that_has_ended_lets_the_gate_decide() -> None:
    now = datetime.now(UTC)
    pin = Pin(version="1", by="anna", reason="complaints", at=now, until=now + timedelta(hours=1))
    standing = Standing(name="m", pin=pin)
    assert "anna pinned version 1 until" in standing.held(now)
    assert standing.held(now + timedelta(hours=2)) == ""


def test_a_pin_that_cannot_be_read_still_holds() -> None:
    pin = pin_of({"kommuna.pin": "leave it, Anna"})
    assert pin is not None
    assert "leave it, Anna" in Standing(name="m", pin=pin).held()


def test_the_history_keeps_the_latest_decisions_and_outlives_a_line_that_cannot_be_read() -> None:
    now = datetime.now(UTC)
    many = tuple(Decision(at=now, by="anna", action="pinned", after=str(i), reason="ж" * 900) for i in range(80))
    text = history_text(many)
    assert 3000 < len(text) < 5000  # what MLflow's column holds
    kept = [one.after for one in history_of({"kommuna.history": f"?\n{text}"})]
    assert kept == [str(i) for i in range(80 - len(kept), 80)]
    assert len(kept) > 10
