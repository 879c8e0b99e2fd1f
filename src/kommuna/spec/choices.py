"""Choices that both a step and a form in the UI offer: one list of names for each."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

LabelModel = Literal["kommuna", "majority", "weighted", "dawid_skene", "snorkel", "snorkel_fast"]
TextClassifier = Literal["tfidf_logreg", "tfidf_cnb", "embeddings", "tfidf_embeddings"]
Classifier = Literal["tfidf_logreg", "tfidf_cnb", "embeddings", "tfidf_embeddings", "boosted_trees"]
Encoder = Literal["minilm", "multilingual_e5"]
EncoderChoice = Literal["auto", "minilm", "multilingual_e5"]  # auto: by the letters of the texts
Seed = Annotated[int, Field(ge=0, lt=2**32)]  # as NumPy and scikit-learn take one
