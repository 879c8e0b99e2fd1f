"""Finds words that a text must contain for a regular expression to match, so that the regex runs on few texts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any

from kommuna.steps.labeling.rules.text.regex import ops, parsed
from kommuna.steps.labeling.rules.text.tokens import tokens

Words = frozenset[str]

_MOST_STRINGS = 64  # the largest number of strings that a part of a pattern is expanded into
_LEAST_LENGTH = 3  # the smallest length of a word, in characters; shorter words are too frequent
_MOST_SETS = 2  # the largest number of sets; a text must contain a word of each
_NOT_WORDS = re.compile(r"[^\x00-\x7f\u0400-\u0481]+")
_REPEATS = (ops.MAX_REPEAT, ops.MIN_REPEAT, ops.POSSESSIVE_REPEAT)


def needed_words(pattern: str) -> list[Words]:
    """Returns sets of words: a text that the pattern matches contains at least one word of each set.

    An empty list means that no required word was found. Words are folded, as in `token_lines`, have no signs, and may
    be parts of the text's words. The result holds for texts of `NEUTRAL` characters only: in other texts folding may
    change letters that the pattern matches.

    >>> [sorted(words) for words in needed_words("(lost|stolen).{0,20}(my )?cards?")]
    [['card'], ['lost', 'stolen']]
    """
    sets = _sets(parsed(pattern))
    return sorted(sets, key=_rank)[:_MOST_SETS]


def _rank(words: Words) -> tuple[int, int]:
    """Sort key: rare words first, where longer words are taken to be rarer."""
    return -min(map(len, words)), len(words)


def _sets(nodes: Iterable[Any]) -> list[Words]:
    """Returns the sets of a sequence of nodes; adjacent nodes with known strings are joined."""
    found: list[Words] = []
    run = [""]
    for node in nodes:
        strings = _strings(node)
        joined = None if strings is None else _joined(run, strings)
        if joined is not None:
            run = joined
            continue
        found += _as_words(run)
        run = [""] if strings is None else strings
        found += _inside(node) if strings is None else []
    return list(dict.fromkeys(found + _as_words(run)))


def _inside(node: Any) -> list[Words]:
    """Returns the sets of a node that has no list of strings."""
    kind, value = node
    if kind is ops.SUBPATTERN:
        return _sets(value[3])
    if kind is ops.ATOMIC_GROUP:
        return _sets(value)
    if kind in _REPEATS and value[0] >= 1:
        return _sets(value[2])
    if kind is ops.BRANCH:
        best = [sorted(_sets(branch), key=_rank)[:_MOST_SETS] for branch in value[1]]
        # The union of the first sets of all branches is one set, that of the second sets another; a branch with
        # a single set contributes it to both.
        least = 0 if [] in best else max(map(len, best))
        return [frozenset().union(*(sets[min(i, len(sets) - 1)] for sets in best)) for i in range(least)]
    return []


def _strings(node: Any) -> list[str] | None:
    """Returns every string that a node matches, ignoring case; None if there are too many or they are unknown."""
    kind, value = node
    if kind is ops.LITERAL:
        return [chr(value)]
    if kind is ops.AT:
        return [""]
    if kind is ops.IN:
        return _characters(value)
    if kind is ops.SUBPATTERN:
        return _sequence(value[3])
    if kind is ops.ATOMIC_GROUP:
        return _sequence(value)
    if kind in _REPEATS and value[1] == 1:
        body = _sequence(value[2])
        return body if body is None or value[0] == 1 else ["", *body]
    if kind is ops.BRANCH:
        branches = [_sequence(branch) for branch in value[1]]
        strings = [string for branch in branches for string in branch or ()]
        return strings if None not in branches and len(strings) <= _MOST_STRINGS else None
    return None


def _sequence(nodes: Iterable[Any]) -> list[str] | None:
    strings = [""]
    for node in nodes:
        own = _strings(node)
        joined = None if own is None else _joined(strings, own)
        if joined is None:
            return None
        strings = joined
    return strings


def _characters(parts: Sequence[Any]) -> list[str] | None:
    found: list[str] = []
    for kind, value in parts:
        if kind is ops.LITERAL:
            found.append(chr(value))
        elif kind is ops.RANGE and value[1] - value[0] < _MOST_STRINGS:
            found += map(chr, range(value[0], value[1] + 1))
        else:
            return None
    return found if len(found) <= _MOST_STRINGS else None


def _joined(left: Sequence[str], right: Sequence[str]) -> list[str] | None:
    return [a + b for a in left for b in right] if len(left) * len(right) <= _MOST_STRINGS else None


def _as_words(strings: Sequence[str]) -> list[Words]:
    """Returns one set with a word of each string, or no set if some string has no word that is long enough."""
    longest = {max((run for part in _NOT_WORDS.split(string) for run in _runs(part)), key=len) for string in strings}
    if min(map(len, longest)) < _LEAST_LENGTH:
        return []
    return [frozenset(word for word in longest if not any(other in word for other in longest if other != word))]


def _runs(string: str) -> Iterator[str]:
    """Yields the runs of words between signs."""
    for is_word, run in groupby(tokens(string), key=lambda token: len(token) > 1 or token == "_" or token.isalnum()):
        yield " ".join(run) if is_word else ""
    yield ""
