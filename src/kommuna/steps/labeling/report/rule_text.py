"""Shows rules to people: their matches in a message."""

from __future__ import annotations

from collections.abc import Iterator
from functools import singledispatch
from typing import NamedTuple

import polars as pl
from markupsafe import Markup, escape

from kommuna.spec.rules import KeywordRule, RegexRule, Rule
from kommuna.steps.labeling.rules.text.regex import polars_pattern, python_only
from kommuna.steps.labeling.rules.text.stems import stem
from kommuna.steps.labeling.rules.text.tokens import TOKEN, tokens
from kommuna.steps.text import normalized


class _Token(NamedTuple):
    """A token of a text in normal form (or its stem), and its position in the text."""

    word: str
    start: int
    end: int


def highlighted(rule: Rule, text: str) -> Markup:
    """Returns the escaped text, with the matches of a keyword or regex rule in <mark>.

    Args:
        rule: the rule; other kinds of rules mark nothing.
        text: the message.
    """
    marked: list[Markup] = []
    done = 0
    for start, end in _merged(sorted(_found(rule, text))):
        marked += [escape(text[done:start]), Markup("<mark>{}</mark>").format(text[start:end])]
        done = end
    return Markup("").join([*marked, escape(text[done:])])


@singledispatch
def _found(_rule: Rule, _text: str) -> Iterator[tuple[int, int]]:
    """Yields start and end of each match. Each kind of rule that reads the text registers its own function."""
    return iter(())


@_found.register
def _keywords(rule: KeywordRule, text: str) -> Iterator[tuple[int, int]]:
    found = list(_tokens(text, rule.stem))
    for keyword in rule.any:
        words = [_form(word, rule.stem) for word in tokens(keyword)]
        for first in range(len(found) - len(words) + 1):
            run = found[first : first + len(words)]
            if words and [token.word for token in run] == words:
                yield run[0].start, run[-1].end


@_found.register
def _regex(rule: RegexRule, text: str) -> Iterator[tuple[int, int]]:
    if python_only(rule.regex) is not None:
        return
    matches = pl.Series([text]).str.extract_all(polars_pattern(rule.regex))[0]
    done = 0
    for match in matches:  # in the order of the text
        start = text.find(match, done) if match else -1
        if start >= 0:
            done = start + len(match)
            yield start, done


def _tokens(text: str, language: str | None) -> Iterator[_Token]:
    normal = normalized(text)
    for match in TOKEN.finditer(normal.text):
        yield _Token(_form(match[0], language), *normal.span(*match.span()))


def _form(word: str, language: str | None) -> str:
    return stem(language, word) if language else word


def _merged(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Merges overlapping spans; they must be sorted."""
    merged: list[tuple[int, int]] = []
    for start, end in spans:
        if merged and start <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(end, merged[-1][1])
        else:
            merged.append((start, end))
    return merged
