"""`wait_until`: the value, the last evaluation, and the caller's own error."""

import time

import pytest

from kommuna.errors import PlatformFault, RegistryUnreachable
from kommuna.waiting import wait_until


def test_the_first_true_value_is_returned_at_once() -> None:
    values = iter(["", None, "here", "not asked for"])
    assert wait_until("it is here", lambda: next(values), every=0) == "here"
    assert next(values) == "not asked for"


def test_the_condition_is_evaluated_once_more_after_the_time_is_up() -> None:
    began = time.monotonic()
    assert wait_until("time goes by", lambda: time.monotonic() - began > 0.2, seconds=0.01, every=0.3)


def test_the_error_names_the_condition() -> None:
    with pytest.raises(PlatformFault, match=r"timed out after 0\.01 seconds, waiting until the moon is full"):
        wait_until("the moon is full", lambda: False, seconds=0.01, every=0.01)


def test_the_caller_makes_the_error_and_an_error_of_the_condition_ends_the_wait() -> None:
    with pytest.raises(RegistryUnreachable, match="gone"):
        wait_until("it answers", lambda: 0, seconds=0, every=0, late=lambda: RegistryUnreachable("gone"))
    with pytest.raises(ZeroDivisionError):
        wait_until("it answers", lambda: 1 / 0)
