"""Choices and ranges that both a step and a form in the UI offer: one list of names, or one range, for each."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from kommuna.errors import nearest

LabelModelName = Literal["kommuna", "majority", "weighted", "dawid_skene", "snorkel", "snorkel_fast"]
TextClassifier = Literal["tfidf_logreg", "tfidf_cnb", "embeddings", "tfidf_embeddings"]
Classifier = Literal["tfidf_logreg", "tfidf_cnb", "embeddings", "tfidf_embeddings", "boosted_trees"]
Encoder = Literal["minilm", "multilingual_e5"]
EncoderChoice = Literal["auto", "minilm", "multilingual_e5"]  # auto: chosen by the alphabet of the texts
Seed = Annotated[int, Field(ge=0, lt=2**32)]  # the range that NumPy and scikit-learn accept
Share = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]


def known_region(region: str) -> str:
    """Validates the code of a region whose phone numbers are known.

    Raises:
        ValueError: the region is unknown. The message names the nearest one.
    """
    from phonenumbers import SUPPORTED_REGIONS

    if region not in SUPPORTED_REGIONS:
        hint = nearest(region.upper(), SUPPORTED_REGIONS)
        raise ValueError(f"no region '{region}'{hint}; two capital letters of ISO 3166, for example RU, KZ, DE")
    return region


Region = Annotated[str, AfterValidator(known_region)]
