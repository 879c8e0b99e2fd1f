"""Limits the size of generated regular expressions, which are checked before they are applied to any row."""

from __future__ import annotations

import re
from typing import Any

from kommuna.steps.labeling.rules.text.regex import ops, parsed, python_only

MOST_CHARACTERS = 300
MOST_STATES = 2_000  # of the pattern with its repeats expanded; a pattern by hand has some dozens

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
        states = _states(parsed(pattern))
    except (re.error, RecursionError, OverflowError):
        return "a regex that cannot be read"
    if states > MOST_STATES:
        return "a regex too large"
    reason = python_only(pattern)
    return f"a regex with {reason}" if reason else ""


def _states(node: Any) -> int:
    """Counts the characters and sets of a parsed pattern with counted repeats expanded."""
    total = 0
    for operation, argument in node:
        if operation in _REPEATS:
            least, most, body = argument
            times = least + 1 if most is ops.MAXREPEAT else most
            total += max(int(times), 1) * _states(body)
        elif operation is ops.BRANCH:
            total += sum(_states(branch) for branch in argument[1])
        elif operation is ops.SUBPATTERN:
            total += _states(argument[-1])
        else:
            total += 1
    return total
