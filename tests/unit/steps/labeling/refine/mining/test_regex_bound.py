"""Generated regular expressions: those that may take too long are refused before they are applied."""

import time

import polars as pl
import pytest

from kommuna.steps.labeling.refine.mining.regex_bound import unbounded


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        (r"(a+)+(?=b)", "look-around"),
        (r"(a|a)*\1", "a back-reference"),
        (r"(?>a+)b", "an atomic group"),
        (r"((a{100}){100}){100}", "too large"),
        (r"(\w{0,60}\s{0,60}){50}", "too large"),
        (r".{0,1900}zq", "too large"),
        (r"z.{0,100}q.{0,100}z", "too large"),
        ("x" * 301, "too large"),
        ("(a", "cannot be read"),
        ("(" * 290, "cannot be read"),
    ],
)
def test_a_pattern_that_may_take_too_long_is_refused(pattern, reason):
    assert reason in unbounded(pattern)


@pytest.mark.parametrize("pattern", [r"(can't|cannot) (find|see) .{0,40}card", r"\d{4}", r"lost.*(card|pin)"])
def test_a_pattern_as_people_write_them_is_accepted(pattern):
    assert unbounded(pattern) == ""


@pytest.mark.parametrize("pattern", [r"(a+)+$", r"(x+x+)+y", r"(.*)*card", r"(a|aa)+$"])
def test_a_pattern_that_is_slow_only_with_backtracking_is_accepted_and_ends(pattern):
    assert unbounded(pattern) == ""
    texts = pl.Series(["a" * 5_000 + "!", "x" * 5_000] * 20)
    began = time.perf_counter()
    texts.str.contains(f"(?i){pattern}")
    assert time.perf_counter() - began < 30  # Python's `re` would practically never end
