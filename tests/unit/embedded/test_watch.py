"""Only programs that hang or have failed for good are restarted."""

from __future__ import annotations

import pytest

from kommuna.embedded.liveness import Liveness
from kommuna.embedded.watch import REST_SECONDS, SILENCE_SECONDS, STARTING_SECONDS, Watch


class Clock:
    """Time that passes when told."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def info(name: str, start: float, state: str = "RUNNING") -> dict[str, object]:
    return {"name": name, "start": start, "statename": state}


def silent_after(seconds: float, liveness: Liveness, *, start: float = 0, step: float = 5) -> dict[str, float]:
    """What is restarted in the round after so many seconds of the same liveness."""
    clock = Clock()
    watch = Watch(clock=clock)
    watch.hanging([info(liveness.name, start)], {liveness.name: Liveness(liveness.name)})
    end = clock.now + seconds
    while clock.now < end:
        clock.now = min(end, clock.now + step)
        found = watch.hanging([info(liveness.name, start)], {liveness.name: liveness})
    return found


def test_a_scheduler_with_an_old_heartbeat_is_restarted_although_its_process_exists() -> None:
    stopped = Liveness("scheduler", "no heartbeat for 99 s", heartbeat=1_000_000)
    assert silent_after(SILENCE_SECONDS + 1, stopped) == {"scheduler": SILENCE_SECONDS + 1}
    assert silent_after(SILENCE_SECONDS - 1, stopped) == {}


def test_a_server_that_does_not_answer_is_restarted() -> None:
    assert list(
        silent_after(SILENCE_SECONDS + 1, Liveness("mlflow", "does not answer at http://127.0.0.1:1/health"))
    ) == ["mlflow"]


def test_a_late_heartbeat_is_not_a_reason_to_restart() -> None:
    clock = Clock()
    watch = Watch(clock=clock)
    for _ in range(100):
        clock.now += 5
        late = Liveness("scheduler", "no heartbeat for 30 s", heartbeat=clock.now - 30)
        assert watch.hanging([info("scheduler", 0)], {"scheduler": late}) == {}


@pytest.mark.parametrize(
    "liveness",
    [Liveness("scheduler", "no heartbeat for 999 s", heartbeat=999_001), Liveness("mlflow", "does not answer")],
    ids=["scheduler", "mlflow"],
)
def test_a_slow_start_has_its_time_and_is_restarted_in_the_end(liveness: Liveness) -> None:
    assert silent_after(STARTING_SECONDS, liveness, start=1_000_002) == {}
    assert list(silent_after(STARTING_SECONDS + 3, liveness, start=1_000_002)) == [liveness.name]


def test_the_last_heartbeat_of_a_predecessor_does_not_count() -> None:
    clock = Clock()
    watch = Watch(clock=clock)
    killed, started = clock.now, clock.now + 2
    while clock.now < started + STARTING_SECONDS - 5:
        clock.now += 5
        trouble = "" if clock.now < killed + 15 else "no heartbeat for some time"
        liveness = {"scheduler": Liveness("scheduler", trouble, heartbeat=killed)}
        assert watch.hanging([info("scheduler", started)], liveness) == {}


def test_a_process_whose_reporter_is_down_is_not_restarted() -> None:
    assert silent_after(SILENCE_SECONDS * 4, Liveness("scheduler", "unknown: …", known=False)) == {}


def test_after_a_laptops_sleep_nothing_is_restarted_at_once() -> None:
    clock = Clock()
    watch = Watch(clock=clock)
    liveness = {"scheduler": Liveness("scheduler", "no heartbeat for 3600 s", heartbeat=clock.now)}
    clock.now += 3600
    assert watch.hanging([info("scheduler", 0)], liveness) == {}
    while clock.now < 1_003_600 + SILENCE_SECONDS - 5:
        clock.now += 5
        assert watch.hanging([info("scheduler", 0)], liveness) == {}
    clock.now += 6
    assert list(watch.hanging([info("scheduler", 0)], liveness)) == ["scheduler"]


def test_a_failed_program_is_restarted_after_a_pause_as_often_as_necessary() -> None:
    clock = Clock()
    watch = Watch(clock=clock)
    states = [info("postgres", 0, "FATAL"), info("mlflow", 0)]
    for _ in range(3):
        assert watch.given_up(states) == []
        clock.now += REST_SECONDS
        assert watch.given_up(states) == ["postgres"]
    assert watch.given_up([info("postgres", 0, "STARTING")]) == []
    clock.now += REST_SECONDS
    assert watch.given_up(states) == []
