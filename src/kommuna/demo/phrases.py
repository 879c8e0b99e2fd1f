"""Templates of the demo messages: reads `phrases.yaml` and expands it into pools to draw from."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from functools import cache
from importlib import resources

import numpy as np
import numpy.typing as npt
import polars as pl
import yaml

from kommuna.spec.base import Spec

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

LANGUAGES = ("ru", "en")
PII_KINDS = ("phone", "card", "email", "name", "iban", "inn", "snils")

# Placeholders of one character for an amount, a date and personal data: not letters, so typos and case spare them.
SUM, DAY, PII = "\ue000", "\ue001", "\ue002"
VARIANTS = 60  # expansions per template: each template is equally likely, however many choices it has

_CHOICE = re.compile(r"\{([^{}\[\]]*)\}|\[([^{}\[\]]*)\]")


class Bilingual(Spec):
    """Templates in both languages, one per line."""

    ru: str
    en: str


class Topic(Bilingual):
    """A topic, and the topics that it is easily confused with."""

    like: tuple[str, ...]


class Vague(Bilingual):
    """Templates that may mean any of several topics."""

    topics: tuple[str, ...]


class Phrases(Spec):
    """The content of `phrases.yaml`."""

    topics: dict[str, Topic]
    vague: tuple[Vague, ...]
    asides: Bilingual
    openings: Bilingual
    closings: Bilingual
    pii: dict[str, Bilingual]


@dataclass(frozen=True)
class Pools:
    """Pools of expanded phrases, one per language and group, in one long column.

    Args:
        phrases: the phrases of all pools.
        first: languages x groups, the row of each pool's first phrase.
        size: languages x groups, the length of each pool.
    """

    phrases: pl.Series
    first: Ints
    size: Ints

    def draw(self, rng: np.random.Generator, language: Ints, group: Ints) -> pl.Series:
        """Draws one phrase per row, from the pool of its language and group.

        Args:
            rng: the random numbers.
            language: `n`, each row's language: its index in the pools' first axis.
            group: `n`, each row's group: its index in their second axis.
        """
        size = self.size[language, group]
        rows = self.first[language, group] + (rng.random(len(language)) * size).astype(np.int64)
        return self.phrases.gather(pl.Series(rows))


@cache
def phrases() -> Phrases:
    """Returns the templates that are shipped with the package."""
    text = resources.files("kommuna.demo").joinpath("phrases.yaml").read_text(encoding="utf-8")
    return Phrases.read(yaml.safe_load(text), where="phrases.yaml")


def topics() -> tuple[str, ...]:
    """Returns the tags, from the most to the least frequent."""
    return tuple(phrases().topics)


def expand(template: str, rng: random.Random) -> str:
    """Expands a template at random: `{a|b}` becomes a or b, `[a|b]` becomes a, b or nothing.

    >>> expand("my {card|app} [please]", random.Random(3)) in ("my card", "my app", "my card please", "my app please")
    True
    """

    def choose(match: re.Match[str]) -> str:
        must: str | None = match[1]
        choices: list[str] = ["", *match[2].split("|")] if must is None else must.split("|")
        return rng.choice(choices)

    while _CHOICE.search(template):
        template = _CHOICE.sub(choose, template)
    text = template.replace("<sum>", SUM).replace("<day>", DAY).replace("<pii>", PII)
    return re.sub(r"\s+([?,.])", r"\1", re.sub(r"\s+", " ", text)).strip()


def wordings(lines: str) -> list[str]:
    """Returns `VARIANTS` expansions of each template line; the same lines always give the same expansions."""
    templates = [line for line in lines.splitlines() if line.strip()]
    found: list[str] = []
    for template in templates:
        rng = random.Random(template)
        found.extend(expand(template, rng) for _ in range(VARIANTS))
    return found


def _pools(groups: list[list[Bilingual]]) -> Pools:
    every: list[str] = []
    first, size = np.zeros((2, len(groups)), np.int64), np.zeros((2, len(groups)), np.int64)
    for row, language in enumerate(LANGUAGES):
        for column, sources in enumerate(groups):
            pool = [text for source in sources for text in wordings(getattr(source, language))]
            first[row, column], size[row, column] = len(every), len(pool)
            every.extend(pool)
    return Pools(pl.Series("phrase", every, dtype=pl.String), first, size)


@cache
def topic_pools() -> Pools:
    """Returns messages that name their topic; groups are topics."""
    return _pools([[topic] for topic in phrases().topics.values()])


@cache
def vague_pools() -> Pools:
    """Returns messages that do not name their topic; groups are the topics that the client means."""
    return _pools([[vague for vague in phrases().vague if name in vague.topics] for name in topics()])


@cache
def side_pools() -> Pools:
    """Returns asides (group 0), openings (1) and closings (2)."""
    return _pools([[phrases().asides], [phrases().openings], [phrases().closings]])


@cache
def pii_pools() -> Pools:
    """Returns phrases around personal data; groups are the kinds of `PII_KINDS`."""
    return _pools([[phrases().pii[kind]] for kind in PII_KINDS])
