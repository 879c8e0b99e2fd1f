"""Words that a text must hold for a regular expression to match: a rule then runs on the few texts that hold them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any

from kommuna.steps.labeling.rules.text.regex import ops, parsed
from kommuna.steps.labeling.rules.text.tokens import tokens

Words = frozenset[str]

_MOST_STRINGS = 64  # that a part of a pattern is written out into
_LEAST_LENGTH = 3  # of a word worth looking for
_MOST_SETS = 2  # of which a text must hold one word each
_NO_WORD = re.compile(r"[^\x00-\x7f\u0400-\u0481]+")
_REPEATS = (ops.MAX_REPEAT, ops.MIN_REPEAT, ops.POSSESSIVE_REPEAT)


def needed_words(pattern: str) -> list[Words]:
    """Sets of words; a text that the pattern matches holds at least one word of each set. Empty: nothing is known.

    Words are as in `token_lines`, folded and without signs, and may be parts of the text's words. This holds for texts
    of the characters of `UNDISTURBED` alone: others may match by letters that folding takes apart.

    >>> [sorted(words) for words in needed_words("(lost|stolen).{0,20}(my )?cards?")]
    [['card'], ['lost', 'stolen']]
    """
    sets = _sets(parsed(pattern))
    return sorted(sets, key=_rank)[:_MOST_SETS]


def _rank(words: Words) -> tuple[int, int]:
    """Rare words first, as far as length tells."""
    return -min(map(len, words)), len(words)


def _sets(nodes: Iterable[Any]) -> list[Words]:
    """The sets of a sequence of nodes: strings that follow one another are joined as far as they are known."""
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
    """The sets of a node whose strings cannot be written out."""
    kind, value = node
    if kind is ops.SUBPATTERN:
        return _sets(value[3])
    if kind is ops.ATOMIC_GROUP:
        return _sets(value)
    if kind in _REPEATS and value[0] >= 1:
        return _sets(value[2])
    if kind is ops.BRANCH:
        best = [sorted(_sets(branch), key=_rank)[:_MOST_SETS] for branch in value[1]]
        # The first sets of all branches make one, so do the second; a branch with one alone has it in both.
        least = 0 if [] in best else max(map(len, best))
        return [frozenset().union(*(sets[min(i, len(sets) - 1)] for sets in best)) for i in range(least)]
    return []


def _strings(node: Any) -> list[str] | None:
    """Every string that a node matches, letter case aside; None where there are too many to tell."""
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
    """One set, or none where a string has no word that is long enough."""
    longest = {max((run for part in _NO_WORD.split(string) for run in _runs(part)), key=len) for string in strings}
    if min(map(len, longest)) < _LEAST_LENGTH:
        return []
    return [frozenset(word for word in longest if not any(other in word for other in longest if other != word))]


def _runs(string: str) -> Iterator[str]:
    """Words that follow one another without a sign between."""
    for is_word, run in groupby(tokens(string), key=lambda token: len(token) > 1 or token == "_" or token.isalnum()):
        yield " ".join(run) if is_word else ""
    yield ""
