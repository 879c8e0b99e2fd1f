"""Limits the size of generated regular expressions, which are checked before they are applied to any row."""

from __future__ import annotations

import re
from typing import Any

from kommuna.steps.labeling.rules.text.regex import ops, parsed, python_only

MOST_CHARACTERS = 300
MOST_STATES = 400  # of the pattern with its repeats expanded; a pattern by hand has some dozens
# Of these, by counted repeats: `x.{0,100}y` takes 1 s for a million characters, `x.{0,40}y` .4 s.
MOST_REPEATED = 64

_REPEATS = (ops.MAX_REPEAT, ops.MIN_REPEAT)


def unbounded(pattern: str) -> str:
    """Returns why a pattern may take too long; empty if its time is linear in the text, with a small factor.

    Polars' engine never backtracks: its time is proportional to the length of the text and to the size of the pattern
    with counted repeats expanded, even for ``(a+)+$``. So a pattern is refused if it needs another engine or is large
    when expanded.

    Args:
        pattern: the regular expression.

    >>> unbounded("(?=a)b"), unbounded("((a{50}){50}){50}"), unbounded("(a+)+$")
    ('a regex with look-around', 'a regex too large', '')
    """
    if len(pattern) > MOST_CHARACTERS:
        return "a regex too large"
    try:
        re.compile(pattern)
        tree = parsed(pattern)
        states, once = _states(tree), _states(tree, most_times=1)
    except (re.error, RecursionError, OverflowError):
        return "a regex that cannot be read"
    if states > MOST_STATES or states - once > MOST_REPEATED:
        return "a regex too large"
    reason = python_only(pattern)
    return f"a regex with {reason}" if reason else ""


def _states(node: Any, *, most_times: int | None = None) -> int:
    """Counts the characters and sets of a parsed pattern with counted repeats expanded, at most so many times."""
    total = 0
    for operation, argument in node:
        if operation in _REPEATS:
            least, most, body = argument
            times = max(int(least + 1 if most is ops.MAXREPEAT else most), 1)
            total += (times if most_times is None else min(times, most_times)) * _states(body, most_times=most_times)
        elif operation is ops.BRANCH:
            total += sum(_states(branch, most_times=most_times) for branch in argument[1])
        elif operation is ops.SUBPATTERN:
            total += _states(argument[-1], most_times=most_times)
        else:
            total += 1
    return total
