"""`TextPreparation`: how texts were cleaned and masked, by which a registered model takes raw texts."""

from __future__ import annotations

from functools import lru_cache

import polars as pl

from kommuna.spec.base import Spec
from kommuna.spec.choices import Count, Region
from kommuna.steps.etl.clean import MAX_CHARS, normalised
from kommuna.steps.etl.pii.masker import Masker


class TextPreparation(Spec):
    """Cleans and masks texts as `prepare_messages` does with the same parameters.

    Attributes:
        names: people's names to mask.
        region: country of phone numbers without a country code, two letters.
        max_chars: longer texts are cut to this number of characters.

    >>> TextPreparation(names=("Ivan",)).prepared(pl.Series([" Ivan,  call +7 916 123-45-67", None])).to_list()
    ['[NAME], call [PHONE]', None]
    """

    names: tuple[str, ...] = ()
    region: Region = "RU"
    max_chars: Count = MAX_CHARS

    def prepared(self, texts: pl.Series) -> pl.Series:
        """Returns raw texts cleaned and masked, in their order; null stays null."""
        text = texts.name
        clean = texts.to_frame().select(normalised(pl.col(text), self.max_chars))[text]
        return _masker(self.names, self.region).mask_column(clean)["text"].alias(text)


@lru_cache(maxsize=8)
def _masker(names: tuple[str, ...], region: str) -> Masker:
    return Masker(names, region)
