"""Finds people's names in texts, as whole words of their normal form."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import islice, pairwise

import polars as pl

from kommuna.spec.texts import text_list
from kommuna.steps.etl.pii.found import Found
from kommuna.steps.text import INVISIBLE, MARKS, has_plain_letters, normalize, normalized

# A word in the normal form of a text. Latin and Cyrillic letters and punctuation are not looked up among the marks.
_WORD = re.compile(rf"(?:[^\W_]++|(?![\0-\u02FF\u0370-\u0482\u2000-\u20CF])[{MARKS}]++)++")
_LONGEST_GAP = 3  # characters between two words of a name
_MANY_NAMES = 300  # a regular expression of 10,000 names is over the engine's 10 MB; 80 take 0.03 s for 100,000 texts
_LETTER = r"[\p{L}\p{N}]"


class Names:
    """People's names; a name of several words matches where they follow each other."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names: dict[str, list[tuple[str, ...]]] = {}
        for name in text_list("names", names):
            words = tuple(_WORD.findall(normalize(name)))
            if words:
                self._names.setdefault(words[0], []).append(words)
        for known in self._names.values():
            known.sort(key=len, reverse=True)
        self._first_words = sorted(self._names)
        self._longest = max((len(name) for known in self._names.values() for name in known), default=0)

    def __bool__(self) -> bool:
        """Whether there is a name."""
        return bool(self._names)

    def may_be_in(self, text: pl.Expr) -> pl.Expr:
        """Whether a text may hold a name; no false negatives."""
        words = self._first_words
        # True for few texts; in the others the normal form of a word is its lower case, with е for ё.
        changed = text.str.contains(_changed_letters())
        if len(words) <= _MANY_NAMES:
            # Not \b, which knows Unicode: with it 500,000 texts take 10 s, with the classes 0.3 s.
            listed = "|".join(re.escape(word).replace("е", "[её]") for word in words)
            return changed | text.str.contains(rf"(?:^|[^\p{{L}}\p{{N}}])(?i:{listed})(?:$|[^\p{{L}}\p{{N}}])")
        known = pl.element().is_in(pl.Series(words).implode())
        return changed | _lowered(text).str.extract_all(rf"{_LETTER}+").list.eval(known).list.any()

    def first_words(self, text: pl.Expr) -> pl.Expr:
        """The names' first words that the lower case of a text contains, also within other words."""
        return _lowered(text).str.extract_many(self._first_words, overlapping=True).list.unique()

    def find(self, text: str, first_words: Iterable[str] | None = None) -> Iterator[Found]:
        """Yields the names in a text.

        Args:
            text: any text.
            first_words: what `first_words` gives for the text; None: they are looked for here.
        """
        if first_words is not None and has_plain_letters(text):
            normal, spans = text.lower().replace("ё", "е"), None
            starts = sorted(start for word in first_words for start in _word_starts(normal, word))
        else:
            spans = normalized(text)
            normal = spans.text
            starts = [match.start() for match in _WORD.finditer(normal) if match[0] in self._names]
        done = 0
        for start in starts:
            if start < done:
                continue
            words = list(islice(_WORD.finditer(normal, start), self._longest))
            places = [word.span() if spans is None else spans.span(*word.span()) for word in words]
            for name in self._names.get(words[0][0], ()):
                known = len(name)
                gaps = all(0 < b[0] - a[1] <= _LONGEST_GAP for a, b in pairwise(places[:known]))
                if gaps and tuple(word[0] for word in words[:known]) == name:
                    yield places[0][0], places[known - 1][1], "NAME"
                    done = words[known - 1].end()
                    break


def _word_starts(text: str, word: str) -> Iterator[int]:
    """Yields where a text has a word, or another word that begins with it."""
    at = text.find(word)
    while at >= 0:
        if not (at and _WORD.match(text, at - 1)):
            yield at
        at = text.find(word, at + 1)


def _lowered(text: pl.Expr) -> pl.Expr:
    return text.str.to_lowercase().str.replace_all("ё", "е", literal=True)


@cache
def _changed_letters() -> str:
    """A pattern of the characters that the normal form changes, merges or drops, unlike lower case."""
    letters = (char for char in map(chr, range(0x80, 0x30000)) if char.isalnum() and char not in "ёЁ")
    changed = "".join(char for char in letters if normalize(char) != char.lower())
    return f"[{MARKS}{INVISIBLE}{re.escape(changed)}]"
