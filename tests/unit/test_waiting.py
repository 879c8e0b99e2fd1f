"""One way to wait: the value that was waited for, a last look, and the caller's own error."""

import time

import pytest

from kommuna.errors import PlatformFault, RegistryUnreachable
from kommuna.waiting import wait_until


def test_the_first_true_value_is_returned_and_looked_at_no_more() -> None:
    values = iter(["", None, "here", "not asked for"])
    assert wait_until("it is here", lambda: next(values), every=0) == "here"
    assert next(values) == "not asked for"


def test_there_is_a_last_look_after_the_time_is_over() -> None:
    began = time.monotonic()
    assert wait_until("time goes by", lambda: time.monotonic() - began > 0.2, seconds=0.01, every=0.3)


def test_what_was_waited_for_is_named() -> None:
    with pytest.raises(PlatformFault, match=r"after 0\.01 seconds still not: the moon is full"):
        wait_until("the moon is full", lambda: False, seconds=0.01, every=0.01)


def test_the_caller_names_the_error_and_an_error_of_the_look_ends_the_wait() -> None:
    with pytest.raises(RegistryUnreachable, match="gone"):
        wait_until("it answers", lambda: 0, seconds=0, every=0, late=lambda: RegistryUnreachable("gone"))
    with pytest.raises(ZeroDivisionError):
        wait_until("it answers", lambda: 1 / 0)
