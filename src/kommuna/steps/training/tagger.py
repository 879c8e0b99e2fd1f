"""`Tagger`: a trained classifier of messages or table rows, kept as one file."""

from __future__ import annotations

import io
import pickle
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray

from kommuna.errors import DataError, SpecError, nearest
from kommuna.spec.choices import Encoder
from kommuna.steps.columns import missing_column
from kommuna.steps.log_odds_calibration import LogOddsCalibration
from kommuna.steps.training.confidence import Acceptance, calibrate
from kommuna.steps.training.explain import Explanation, Words, contribution, linear_words, occluded_words
from kommuna.steps.training.features.embeddings import TextEmbeddings
from kommuna.steps.training.features.tabular import TableFeatures
from kommuna.steps.training.features.tfidf import TextFeatures
from kommuna.steps.training.fit.soft_logistic import Linear, Link, Matrix, probabilities
from kommuna.steps.training.fit.weighted_rows import Ensemble

FORMAT = 2
ACCEPTED, REVIEW, NO_TEXT = DECISIONS = ("accepted", "review", "no text")  # about a row's tags
# Modules by their names in older taggers: a tagger must load after its code has moved.
_MOVED = {
    f"kommuna.steps.training.{before}": f"kommuna.steps.training.{now}"
    for before, now in {
        "classifiers": "fit.boosted_trees",
        "fit.classifiers": "fit.boosted_trees",
        "embeddings": "features.embeddings",
        "tabular": "features.tabular",
        "text": "features.tfidf",
        "soft_logistic": "fit.soft_logistic",
        "vector_scaling": "fit.vector_scaling",
        "weighted_rows": "fit.weighted_rows",
    }.items()
}


_RENAMED = {"several_tags": "multi_label"}  # fields, by their names in older taggers
# What the file of a tagger may name: the classes of our classifiers, and of scikit-learn and NumPy below them.
_NAMED = {
    "builtins": {"slice"},
    "functools": {"partial"},
    "kommuna.steps.log_odds_calibration": {"LogOddsCalibration"},
    "kommuna.steps.tfidf": {"PartTfidf", "WordTfidf"},
    "kommuna.steps.training.confidence": {"Acceptance"},
    "kommuna.steps.training.features.embeddings": {"TextEmbeddings"},
    "kommuna.steps.training.features.tabular": {"TableFeatures"},
    "kommuna.steps.training.features.tfidf": {"TextFeatures", "normalise"},
    "kommuna.steps.training.fit.boosted_trees": {"BoostedTrees"},
    "kommuna.steps.training.fit.soft_logistic": {"Linear"},
    "kommuna.steps.training.fit.vector_scaling": {"Scaling"},
    "kommuna.steps.training.fit.weighted_rows": {"Ensemble"},
    "kommuna.steps.training.tagger": {"EnsembleTables", "EnsembleTexts", "LinearTexts", "MixedTexts"},
    "numpy": {"dtype", "float32", "float64", "ndarray"},
    "numpy._core.multiarray": {"_reconstruct", "scalar"},
    "numpy._core.numeric": {"_frombuffer"},
    "numpy.random._pcg64": {"PCG64"},
    "numpy.random._pickle": {"__bit_generator_ctor", "__generator_ctor"},
    "numpy.random.bit_generator": {"SeedSequence", "__pyx_unpickle_SeedSequence"},
    "sklearn._loss._loss": {"CyHalfBinomialLoss", "CyHalfMultinomialLoss", "__pyx_unpickle_CyHalfMultinomialLoss"},
    "sklearn._loss.link": {"Interval", "LogitLink", "MultinomialLogit"},
    "sklearn._loss.loss": {"HalfBinomialLoss", "HalfMultinomialLoss"},
    "sklearn.compose._column_transformer": {"ColumnTransformer"},
    "sklearn.ensemble._hist_gradient_boosting.binning": {"_BinMapper"},
    "sklearn.ensemble._hist_gradient_boosting.gradient_boosting": {"HistGradientBoostingClassifier"},
    "sklearn.ensemble._hist_gradient_boosting.predictor": {"TreePredictor"},
    "sklearn.feature_extraction.text": {"TfidfTransformer", "TfidfVectorizer"},
    "sklearn.naive_bayes": {"ComplementNB"},
    "sklearn.preprocessing._encoders": {"OrdinalEncoder"},
    "sklearn.preprocessing._function_transformer": {"FunctionTransformer"},
    "sklearn.preprocessing._label": {"LabelEncoder"},
    "sklearn.utils.validation": {"check_array"},
}


class TextScorer(Protocol):
    """Scores texts and explains the scores."""

    def probabilities(self, frame: pl.DataFrame) -> Matrix:
        """Returns `n x k` probabilities of the rows of a table."""
        ...

    def words(self, text: str, column: int) -> Words:
        """Returns what each word of a text adds to a tag's score.

        Args:
            text: one text.
            column: the tag's index.
        """
        ...


@dataclass(frozen=True)
class LinearTexts:
    """A linear model of one text column."""

    text: str
    features: TextFeatures | TextEmbeddings
    model: Linear
    link: Link

    def scores(self, frame: pl.DataFrame) -> Matrix:
        """Returns `n x k` scores of the rows of a table."""
        return self.model.scores(self.features.transform(texts(frame, self.text)))

    def probabilities(self, frame: pl.DataFrame) -> Matrix:
        """Returns `n x k` probabilities of the rows of a table."""
        return probabilities(self.scores(frame), self.link)

    def words(self, text: str, column: int) -> Words:
        """Returns what each word adds to a tag's score: exactly for TF-IDF, by occlusion for embeddings."""
        features = self.features
        coef = contribution(self.model, column, softmax=self.link == "softmax")
        if isinstance(features, TextFeatures):
            return linear_words(text, features, coef)
        return occluded_words(text, lambda some: features.transform(some) @ coef)


@dataclass(frozen=True)
class MixedTexts:
    """The weighted sum of the scores of several linear models of one text column."""

    parts: tuple[LinearTexts, ...]
    weights: tuple[float, ...]
    link: Link

    def scores(self, frame: pl.DataFrame) -> Matrix:
        """Returns `n x k` scores of the rows of a table."""
        each = [np.float32(w) * part.scores(frame) for w, part in zip(self.weights, self.parts, strict=True)]
        return np.asarray(np.sum(each, axis=0), dtype=np.float32)

    def probabilities(self, frame: pl.DataFrame) -> Matrix:
        """Returns `n x k` probabilities of the rows of a table."""
        return probabilities(self.scores(frame), self.link)

    def words(self, text: str, column: int) -> Words:
        """Returns the weighted sum of the words' contributions in each model."""
        out: Words = {}
        for part, weight in zip(self.parts, self.weights, strict=True):
            for word, value in part.words(text, column).items():
                out[word] = out.get(word, 0.0) + weight * value
        return out


@dataclass(frozen=True)
class EnsembleTexts:
    """Any classifier of one text column."""

    text: str
    features: TextFeatures
    model: Ensemble

    def probabilities(self, frame: pl.DataFrame) -> Matrix:
        """Returns `n x k` probabilities of the rows of a table."""
        return self.model.probabilities(self.features.transform(texts(frame, self.text)))

    def words(self, text: str, column: int) -> Words:
        """Returns what the tag's log-odds lose when each word is left out."""

        def score(some: list[str]) -> NDArray[np.float32]:
            p = np.clip(self.model.probabilities(self.features.transform(some))[:, column], 1e-6, 1 - 1e-6)
            return np.asarray(np.log(p) - np.log1p(-p), dtype=np.float32)

        return occluded_words(text, score)


@dataclass(frozen=True)
class EnsembleTables:
    """Any classifier of a table's columns."""

    features: TableFeatures
    model: Ensemble

    def probabilities(self, frame: pl.DataFrame) -> Matrix:
        """Returns `n x k` probabilities of the rows of a table."""
        return self.model.probabilities(self.features.transform(frame))


Scorer = TextScorer | EnsembleTables


def texts(frame: pl.DataFrame, column: str) -> list[str]:
    """Returns a column's texts; null becomes the empty text."""
    return frame[column].cast(pl.String).fill_null("").to_list()


def blank(column: pl.Series) -> NDArray[np.bool_]:
    """Returns which texts of a column are null, empty or white space."""
    return np.asarray((column.cast(pl.String).str.strip_chars() == "").fill_null(True).to_numpy(), dtype=np.bool_)


def without_text(p: Matrix) -> NDArray[np.bool_]:
    """Returns which rows have no text, by their `n x k` probabilities."""
    return np.asarray((p <= 0).all(axis=1), dtype=np.bool_)


@dataclass(frozen=True)
class Tagger:
    """A trained classifier, which tags rows of a table.

    Attributes:
        classifier: name of the classifier in `train_classifier`.
        tags: in the order of the probabilities.
        multi_label: whether a row may have several tags, or none.
        columns: the feature columns that a table must have.
        scorer: the fitted model.
        thresholds: `k`; with several tags, the probability from which a row has the tag.
        never_seen: tags that no training row had; the model never predicts them.
        trained_on: metrics of the training: rows, coverage, held-out accuracy.
        at_least_one: with several tags, whether a row below all thresholds has the tag whose threshold is nearest.
        calibration: of the scorer's probabilities, learned on held-out dev rows; None if there were too few.
        acceptance: from which probability tags are accepted without review; None if there were too few dev rows.
    """

    classifier: str
    tags: tuple[str, ...]
    multi_label: bool
    columns: tuple[str, ...]
    scorer: Scorer
    thresholds: tuple[float, ...] = ()
    never_seen: tuple[str, ...] = ()
    trained_on: dict[str, float] = field(default_factory=dict)
    at_least_one: bool = False
    calibration: LogOddsCalibration | None = None
    acceptance: Acceptance | None = None

    def predict_table(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Tags the rows of a table, in its order.

        Returns:
            `tag` (an Enum of the tags; with several tags per row: `tags`, a list), `confidence` (Float32, the tag's
            probability; with several tags the lowest probability of a decision for or against a tag),
            `decision` (an Enum of `DECISIONS`), `probabilities` (an Array of k). A row without text has no tag and no
            confidence.

        Raises:
            MissingColumn: the table lacks a feature.
            DataError: a feature has the wrong type.
        """
        p = self.probabilities(frame)
        kind = pl.Enum(self.tags)
        column = pl.Series("probabilities", p, dtype=pl.Array(pl.Float32, len(self.tags)))
        if self.multi_label:
            yes = self.chosen(p)
            confidence = np.where(yes, p, 1 - p).min(axis=1)
            chosen = [[self.tags[j] for j in np.flatnonzero(row)] for row in yes]
            tag = pl.Series("tags", chosen, dtype=pl.List(kind))
        else:
            best = p.argmax(axis=1)
            confidence = p[np.arange(len(p)), best]
            tag = pl.Series("tag", np.asarray(self.tags, dtype=object)[best].tolist(), dtype=kind)
        empty = without_text(p)
        decision = np.where(empty, NO_TEXT, np.where(self.accepts(p), ACCEPTED, REVIEW))
        sure = pl.Series("confidence", confidence, dtype=pl.Float32)
        if empty.any():
            some = pl.Series(~empty)
            tag, sure = (pl.select(pl.when(some).then(one)).to_series().alias(one.name) for one in (tag, sure))
        return pl.DataFrame([tag, sure, pl.Series("decision", decision, dtype=pl.Enum(DECISIONS)), column])

    def probabilities(self, frame: pl.DataFrame) -> Matrix:
        """Returns `n x k` calibrated probabilities of the rows of a table; all are 0 for a row without text.

        Raises:
            MissingColumn, DataError: as `predict_table`.
        """
        p = self.calibrated(self.uncalibrated(frame))
        if isinstance(self.scorer, EnsembleTables):
            return p
        return np.where(blank(frame[self.columns[0]])[:, None], np.float32(0), p)

    def uncalibrated(self, frame: pl.DataFrame) -> Matrix:
        """Returns the scorer's `n x k` probabilities of the rows of a table.

        Raises:
            MissingColumn, DataError: as `predict_table`.
        """
        for name in self.columns:
            if name not in frame.columns:
                fix = f"the model was trained on: {', '.join(self.columns)}"
                raise missing_column(name, frame.columns, what="the table", fix=fix)
        if frame.is_empty():
            return np.zeros((0, len(self.tags)), np.float32)
        try:
            return self.scorer.probabilities(frame)
        except pl.exceptions.PolarsError as error:
            message = str(error).splitlines()[0]
            raise DataError(
                f"a feature does not match the model: {message}", fix="use the column types of the training data"
            ) from None

    def calibrated(self, p: Matrix) -> Matrix:
        """Returns the calibrated form of the scorer's `n x k` probabilities."""
        return p if self.calibration is None else calibrate(p, self.calibration, several=self.multi_label)

    def explain(self, text: str, *, tag: str | None = None, most: int = 8) -> Explanation:
        """Explains why a text gets a tag by the words with the strongest contributions.

        Args:
            text: one text.
            tag: what to explain; the likeliest tag if absent.
            most: the most words returned.

        Raises:
            SpecError: the model does not read texts, or has no such tag.
        """
        if isinstance(self.scorer, EnsembleTables):
            raise SpecError(
                f"a model of the columns {', '.join(self.columns)} has no words to explain",
                fix="explain a classifier of texts",
            )
        if tag is not None and tag not in self.tags:
            raise SpecError(f"the model has no tag '{tag}'{nearest(tag, self.tags)}", fix=f"it has {len(self.tags)}")
        if not text.strip():
            raise SpecError("there is no text to explain: such a row gets no tag", fix="give a text with words")
        p = self.probabilities(pl.DataFrame({self.columns[0]: [text]}))[0]
        column = int(p.argmax()) if tag is None else self.tags.index(tag)
        words = sorted(self.scorer.words(text, column).items(), key=lambda item: (-abs(item[1]), item[0]))
        return Explanation(self.tags[column], float(p[column]), tuple(words[:most]))

    @property
    def encoder(self) -> Encoder | None:
        """The encoder of its embeddings; None with TF-IDF alone."""
        parts = self.scorer.parts if isinstance(self.scorer, MixedTexts) else (self.scorer,)
        features = [part.features for part in parts if isinstance(part, LinearTexts)]
        return next((some.encoder for some in features if isinstance(some, TextEmbeddings)), None)

    def chosen(self, p: Matrix) -> NDArray[np.bool_]:
        """Returns which tags each row gets, `n x k`, from its probabilities; a row without text gets none."""
        out = np.zeros(p.shape, dtype=np.bool_)
        if not self.multi_label:
            out[np.arange(len(p)), p.argmax(axis=1)] = True
            return out & (p > 0)
        thresholds = np.asarray(self.thresholds, dtype=np.float32)
        out |= p >= thresholds
        if self.at_least_one:
            none = np.flatnonzero(~out.any(axis=1) & ~without_text(p))
            below = np.clip(p[none], 1e-7, 1 - 1e-7)
            odds = below / (1 - below) * ((1 - thresholds) / thresholds)
            out[none, odds.argmax(axis=1)] = True
        return out

    def accepts(self, p: Matrix) -> NDArray[np.bool_]:
        """Returns whether each row, by its `n x k` probabilities, has a tag and all of its tags can be accepted."""
        least = self.acceptance.min_confidence if self.acceptance else None
        if least is None:
            return np.zeros(len(p), dtype=np.bool_)
        chosen = self.chosen(p)
        sure = np.where(chosen, p, np.float32(1)).min(axis=1) >= np.float32(least)
        return np.asarray(chosen.any(axis=1) & sure, dtype=np.bool_)

    def save(self, path: Path | str) -> None:
        """Writes the model to one file; the same training gives the same bytes."""
        path = Path(path)
        state = {name: getattr(self, name) for name in self.__dataclass_fields__}
        path.write_bytes(pickle.dumps({"format": FORMAT, "state": state}, protocol=5))

    @classmethod
    def load(cls, path: Path) -> Self:
        """Reads a file that `save` wrote. A file from elsewhere runs no code: it can name only the classes of taggers.

        Raises:
            DataError: the file is not a tagger, or one of another version.
        """
        if path.is_dir():
            raise DataError(
                "the model was not trained by Kommuna: its gate compares with it, but its steps do not tag with it",
                fix="tag by MLflow's own tools until a version of the team passes the gate",
            )
        try:
            content = unpickled(path.read_bytes())
            if content["format"] != FORMAT:
                raise DataError(
                    f"{path.name} is a tagger of format {content['format']}, not {FORMAT}", fix="train it again"
                )
            return cls(**{_RENAMED.get(name, name): value for name, value in content["state"].items()})
        except (pickle.UnpicklingError, EOFError, KeyError, TypeError, AttributeError, ImportError) as error:
            raise DataError(
                f"{path.name} is not a tagger: {type(error).__name__}: {error}", fix="train it again"
            ) from None


def modules() -> list[str]:
    """Returns the names of Kommuna's modules whose classes a tagger's file may hold."""
    return [name for name in _NAMED if name.startswith("kommuna.")]


def unpickled(data: bytes) -> Any:
    """Returns the objects of a tagger's pickle, even if their classes have moved since it was written.

    Raises:
        pickle.UnpicklingError: it names anything but the classes of taggers.
    """
    return _Unpickler(io.BytesIO(data)).load()


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        module = _MOVED.get(module, module)
        if name not in _NAMED.get(module, ()):
            raise pickle.UnpicklingError(f"it names {module}.{name}, which is not part of a tagger")
        return super().find_class(module, name)
