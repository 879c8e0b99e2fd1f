"""`LabelModel`: all label models behind scikit-learn's interface, for notebooks and other programs."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, get_args

import numpy as np
import structlog
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

import kommuna
from kommuna.errors import DataError, SpecError, nearest
from kommuna.spec import choices
from kommuna.spec.rules import RuleSet
from kommuna.steps.labeling.models.base import BaseLabelModel, DevRows, Probabilities
from kommuna.steps.labeling.models.calibrated import calibrated
from kommuna.steps.labeling.models.estimates import BLOCK, Estimates, estimates, own_estimates
from kommuna.steps.labeling.models.fitting import fit_label_model
from kommuna.steps.labeling.models.registry import Settings, model_named
from kommuna.steps.labeling.models.snorkel.library import SnorkelModel
from kommuna.steps.labeling.models.snorkel.sparse import SnorkelFast
from kommuna.steps.labeling.votes.columns import VoteColumns, label_indices, tag_names, vote_columns
from kommuna.steps.labeling.votes.labeled_votes import LabeledVotes
from kommuna.steps.labeling.votes.patterns import ABSTAIN, Codes, VotePatterns, distinct

log = structlog.get_logger()

TiePolicy = Literal["abstain", "first", "random"]

_TIE = 1e-5  # tags whose probabilities differ by less are tied, as in Snorkel
_FORMAT = 1  # version of the file format of `save`
_PROBED = 200  # patterns whose probabilities are saved, to be compared when the file is loaded
_SAME = 1e-4  # the largest difference of probabilities after loading that is not warned of


class LabelModel(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A label model: learns from votes how accurate each rule is, and predicts the probability of each tag.

    >>> import numpy as np
    >>> votes = np.array([[0, 0, -1], [1, -1, 1], [-1, 0, 0], [-1, -1, -1]])
    >>> model = LabelModel("majority").fit(votes)
    >>> model.predict(votes).tolist()
    [0, 1, 0, -1]

    In all methods, `votes` is one of

    - an n x m matrix of whole numbers: the index of a tag, or -1 where the rule abstains;
    - a polars or pandas table with one column per rule: the result of `apply_rules` or `votes_of`, or numbers as in a
      matrix; null (NaN) abstains. After `fit`, columns are selected by their names.

    Each row has one tag. If rows may have several tags, use `label_messages`.

    Args:
        model: the label model's name, see docs/rules.md.
        tags: the tags' names, or a `RuleSet`. By default, the tags of the table's Enums, or numbers if it has none.
        cardinality: the number of tags, if they have no names; by default one more than the highest vote.
        key: the column of a table that names its rows, and does not belong to a rule.
        tie_policy: the prediction if several tags have the highest probability: none (`abstain`), the first of them
            (`first`), or a random one (`random`), which depends on the seed and the row's votes only.
        seed: seed of the model's random numbers.
        iterations: the largest number of EM steps of `dawid_skene`.
        epochs: training epochs of `snorkel` and `snorkel_fast`.
        memory: memory limit of `snorkel`, such as `4Gi`.

    Attributes:
        classes_: k, the tags, or 0 to k - 1.
        rules_: m, the rules' names.
        class_balance_, rule_weights_, conditional_probabilities_: see these properties.
    """

    suffix: ClassVar[str] = ".npz"

    def __init__(
        self,
        model: choices.LabelModelName = "kommuna",
        *,
        tags: Sequence[str] | RuleSet | None = None,
        cardinality: int | None = None,
        key: str | None = "id",
        tie_policy: TiePolicy = "abstain",
        seed: int = 0,
        iterations: int = 50,
        epochs: int = 500,
        memory: str = "4Gi",
    ) -> None:
        self.model = model
        self.tags = tags
        self.cardinality = cardinality
        self.key = key
        self.tie_policy = tie_policy
        self.seed = seed
        self.iterations = iterations
        self.epochs = epochs
        self.memory = memory

    def fit(self, votes: Any, dev_votes: Any = None, dev_labels: Any = None) -> Self:
        """Fits the model.

        Args:
            votes: the votes on all rows.
            dev_votes: the votes of the same rules on d labeled rows, on which probabilities are calibrated.
            dev_labels: d tags as in `classes_`; rows whose label is null (or -1) are left out.

        Raises:
            SpecError: the model or the tie policy is unknown.
            RulesError, DataError, MissingColumn, SchemaDrift: the votes or labels are invalid.
        """
        self._check_choices()
        tags, k = tag_names(self.tags, self.cardinality)
        columns = vote_columns(votes, tags=tags, k=k, key=self.key)
        if not len(columns):
            raise DataError("the votes have no rows: there is nothing to learn from", where="votes")
        labeled = self._dev(dev_votes, dev_labels, columns, k)
        most = 0 if labeled is None else 1 + max(labeled.truth.max(), labeled.votes.max(initial=ABSTAIN))
        k = columns.k if k or columns.tags else max(columns.k, int(most))
        cast, counts, _ = distinct(columns.columns)
        self.classes_ = np.arange(k) if columns.tags is None else np.array(columns.tags, dtype=object)
        self.rules_ = columns.rules
        self._fit(cast, counts, labeled)
        return self

    def predict_proba(self, votes: Any) -> Probabilities:
        """Returns n x k probabilities of the tags in the order of `classes_`; each line sums to 1.

        In a row without a vote all tags are equally likely.

        Args:
            votes: n rows of votes.

        Raises:
            DataError: a probability is NaN, as `snorkel` returns for rows with very many votes.
        """
        probabilities, patterns = self._probabilities(votes)
        return probabilities[patterns.row_pattern]

    def predict(self, votes: Any) -> NDArray[Any]:
        """Returns n tags as in `classes_`; a row without a tag gets None, or -1 if tags have no names.

        Ties are resolved by `tie_policy`. In a row without a vote all tags are tied.

        Args:
            votes: n rows of votes.
        """
        indices = self._indices(votes)
        if self.classes_.dtype != object:
            return indices
        tags: NDArray[Any] = np.array([*self.classes_, None], dtype=object)
        return tags[indices]

    def score(self, votes: Any, labels: Any) -> float:
        """Returns the accuracy on labeled rows, 0 to 1; a row without a predicted tag counts as wrong.

        Args:
            votes: n rows of votes.
            labels: n tags as in `classes_`; rows labeled None, NaN or -1 are left out.

        Raises:
            DataError: the number of labels differs from that of rows, or no row has a label.
            RulesError: a label is not a tag.
        """
        predicted, true = self._indices(votes), label_indices(labels, self._tags(), len(self.classes_))
        if len(true) != len(predicted):
            raise DataError(f"there are {len(true)} labels for {len(predicted)} rows", fix="pass one label per row")
        labeled = true != ABSTAIN
        if not labeled.any():
            raise DataError("no row has a label", where="labels", fix="pass the tag of at least one row")
        return float((predicted[labeled] == true[labeled]).mean())

    @property
    def conditional_probabilities_(self) -> NDArray[np.float64]:
        """m x (k + 1) x k, the probability that a rule abstains (first) or votes for each tag, given the tag.

        For `snorkel` and `snorkel_fast` these are the model's parameters, for other models expected frequencies under
        the predicted probabilities (`estimates`). Votes against tags are not counted.
        """
        return self._estimated().conditional

    @property
    def class_balance_(self) -> NDArray[np.float64]:
        """k, the share of each tag: its mean probability on rows with a vote; for Snorkel models, their parameters."""
        return self._estimated().balance

    @property
    def rule_weights_(self) -> NDArray[np.float64]:
        """m, the accuracy of each rule's votes according to the model; NaN for a rule that never votes.

        For `snorkel` and `snorkel_fast` these are the library's weights, P(right) / P(votes) by the model's parameters.
        """
        return self._estimated().accuracy

    def save(self, path: Path | str) -> None:
        """Writes the settings, the distinct votes and the dev rows to a file of arrays and JSON, without code.

        Args:
            path: the file to write.
        """
        check_is_fitted(self, "rules_")
        settings = self._settings() | {
            "format": _FORMAT,
            "version": kommuna.__version__,
            "classes": self.classes_.tolist(),
            "rules": self.rules_,
        }
        dev = self._labeled or DevRows(np.zeros((0, len(self.rules_)), np.int16), np.zeros(0, np.int64))
        with Path(path).open("wb") as file:
            np.savez_compressed(
                file,
                settings=np.frombuffer(json.dumps(settings).encode(), dtype=np.uint8),
                votes=self._patterns.votes,
                counts=self._patterns.counts,
                dev_votes=dev.votes,
                dev_truth=dev.truth,
                probabilities=self._fitted.predict(self._patterns.votes[:_PROBED]),
            )

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Reads a file that `save` wrote, and fits the model again.

        This takes as long as `fit` did on distinct votes: seconds, but minutes for `snorkel`, which trains on all rows.
        With the same version of Kommuna the model is identical. With another version probabilities may differ; a
        warning then says by how much.

        Args:
            path: the file to read.

        Raises:
            DataError: the file is missing, or was not written by `save`.
        """
        path = Path(path)
        try:
            with np.load(path, allow_pickle=False) as file:
                settings = json.loads(file["settings"].tobytes().decode())
                arrays = {name: file[name] for name in file.files if name != "settings"}
            if settings["format"] != _FORMAT:
                raise DataError(
                    f"{path.name} has format {settings['format']}, this version reads format {_FORMAT}",
                    where=str(path),
                    fix=f"load it with Kommuna {settings['version']}, which wrote it, or fit the model again",
                )
            classes, rules, version = settings.pop("classes"), settings.pop("rules"), settings.pop("version")
            del settings["format"]
            made = cls(**settings)
            made._check_choices()
            made.classes_ = np.array(classes, dtype=object if made.tags else np.int64)
            made.rules_ = tuple(rules)
            dev = DevRows(arrays["dev_votes"], arrays["dev_truth"])
            votes, counts, probed = arrays["votes"], arrays["counts"], arrays["probabilities"]
            _check_saved(made, votes, counts, dev, probed)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, zipfile.BadZipFile) as error:
            missing = isinstance(error, FileNotFoundError)
            raise DataError(
                f"no file {path}" if missing else f"{path.name} is not a file of a LabelModel: {error}",
                where=str(path),
                fix="check the path" if missing else "pass a file that LabelModel.save wrote",
            ) from None
        made._fit(votes, counts, dev if len(dev) else None)
        differ = float(np.abs(made._fitted.predict(votes[:_PROBED]) - probed).max(initial=0))
        if not differ <= _SAME:
            log.warning("label_model.differs", most=differ, written_by=version, read_by=kommuna.__version__)
        return made

    def _settings(self) -> dict[str, Any]:
        """Returns the parameters for JSON, with the tags that `fit` found."""
        named = self.classes_.dtype == object
        given: dict[str, Any] = {
            name: value.item() if isinstance(value, np.generic) else value for name, value in self.get_params().items()
        }
        return given | {
            "tags": self.classes_.tolist() if named else None,
            "cardinality": None if named else len(self.classes_),
        }

    def _check_choices(self) -> None:
        model_named(self.model, self._model_settings())
        known = get_args(TiePolicy)
        if self.tie_policy not in known:
            raise SpecError(
                f"unknown tie policy '{self.tie_policy}'{nearest(str(self.tie_policy), known)}",
                fix=f"use one of {', '.join(known)}",
            )

    def _model_settings(self) -> Settings:
        return Settings(seed=self.seed, iterations=self.iterations, epochs=self.epochs, memory=self.memory)

    def _tags(self) -> tuple[str, ...] | None:
        """Returns the tags' names; None if they have none."""
        return tuple(self.classes_) if self.classes_.dtype == object else None

    def _indices(self, votes: Any) -> NDArray[np.int64]:
        """Returns n indices of predicted tags; -1: none."""
        self._check_choices()
        probabilities, patterns = self._probabilities(votes)
        index = probabilities.argmax(axis=1)
        ties = probabilities > probabilities.max(axis=1, keepdims=True, initial=0) - _TIE
        for i in np.flatnonzero(ties.sum(axis=1) > 1):
            index[i] = self._resolved(np.flatnonzero(ties[i]), patterns.votes[i])
        return np.asarray(index[patterns.row_pattern])

    def _dev(self, votes: Any, labels: Any, fit_on: VoteColumns, k: int) -> DevRows | None:
        """Reads the labeled rows; None if there are none."""
        if votes is None and labels is None:
            return None
        if votes is None or labels is None:
            lacking = "dev_votes" if votes is None else "dev_labels"
            raise DataError(f"{lacking} is missing: dev rows need both the rules' votes on them and labels")
        tags = fit_on.tags
        columns = vote_columns(votes, tags=tags, k=len(tags or ()) or k, key=self.key, rules=fit_on.rules)
        truth = label_indices(labels, tags, k)
        if len(truth) != len(columns):
            raise DataError(
                f"there are {len(columns)} dev_votes and {len(truth)} dev_labels", fix="pass one label per row"
            )
        known = truth != ABSTAIN
        dev = DevRows(np.stack(columns.columns, axis=1)[known], truth[known])
        return dev if len(dev) else None

    def _fit(self, votes: Codes, counts: NDArray[np.int64], dev: DevRows | None) -> None:
        """Fits on distinct votes, so that the result does not depend on the order of the rows."""
        k = len(self.classes_)
        rows = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
        self._patterns = VotePatterns(votes, counts, rows, tuple(str(tag) for tag in self.classes_), self.rules_)
        self._labeled = dev
        self._estimates: Estimates | None = None
        named = model_named(self.model, self._model_settings())
        made: list[BaseLabelModel] = []

        def new_model() -> BaseLabelModel:
            made.append(named())
            return made[-1]

        known = None if dev is None else LabeledVotes(dev.votes, np.eye(k, dtype=np.bool_)[dev.truth])
        fit = fit_label_model(new_model, self._patterns, known, seed=self.seed)
        self._own = made[0]  # the first model is that of all rows; models of the cross-fit follow
        if known is not None and fit.held_out is not None and not fit.calibrated:
            fit = calibrated(fit, fit.held_out, known)
        self._fitted = fit

    def _probabilities(self, votes: Any) -> tuple[Probabilities, VotePatterns]:
        """Returns the patterns of votes and their probabilities."""
        check_is_fitted(self, "rules_")
        k = len(self.classes_)
        patterns = vote_columns(votes, tags=self._tags(), k=k, key=self.key, rules=self.rules_).patterns()
        probabilities = np.full((len(patterns.counts), k), 1 / k)
        for start in range(0, len(probabilities), BLOCK):
            covered = start + np.flatnonzero(patterns.covered[start : start + BLOCK])
            probabilities[covered] = self._fitted.predict(patterns.votes[covered])
        lost = np.flatnonzero(~np.isfinite(probabilities).all(axis=1))
        if len(lost):
            raise DataError(
                f"the label model '{self.model}' gives probabilities that are not numbers for "
                f"{int(patterns.counts[lost].sum())} rows",
                where=f"first of row {int(np.flatnonzero(patterns.row_pattern == lost[0])[0])}",
                fix="take model='kommuna', or 'snorkel_fast' for the library's model without its underflow",
            )
        return probabilities, patterns

    def _resolved(self, tied: NDArray[np.intp], votes: Codes) -> int:
        """Resolves a tie of tags for one row of votes; -1: no tag."""
        if self.tie_policy == "abstain":
            return ABSTAIN
        if self.tie_policy == "first":
            return int(tied[0])
        row = np.ascontiguousarray(votes, dtype="<i2").tobytes()
        drawn = hashlib.blake2b(row, digest_size=8, key=str(self.seed).encode()).digest()
        return int(tied[int.from_bytes(drawn, "little") % len(tied)])

    def _estimated(self) -> Estimates:
        check_is_fitted(self, "rules_")
        if self._estimates is None:
            if isinstance(self._own, SnorkelFast | SnorkelModel):
                self._estimates = own_estimates(self._own, self._patterns)
            else:
                self._estimates = estimates(self._fitted.predict, self._patterns, self._labeled)
        return self._estimates


def _check_saved(
    made: LabelModel, votes: Codes, counts: NDArray[np.int64], dev: DevRows, probed: NDArray[np.float64]
) -> None:
    """Checks the arrays of a file against its settings.

    Raises:
        ValueError: they do not match; says which.
    """
    k, m, d = len(made.classes_), len(made.rules_), len(dev.truth)
    shapes = {
        "votes": (votes, (len(votes), m), 2 * k),
        "counts": (counts, (len(votes),), None),
        "dev_votes": (dev.votes, (d, m), 2 * k),
        "dev_truth": (dev.truth, (d,), k),
    }
    for name, (array, shape, end) in shapes.items():
        least = ABSTAIN if name.endswith("votes") else 0
        if array.shape != shape or array.dtype.kind != "i":
            raise ValueError(f"{name} has the shape {array.shape} and the type {array.dtype}, not {shape} and int")
        if array.size and (array.min() < least or (end is not None and array.max() >= end)):
            raise ValueError(f"{name} has values out of range")
    if probed.shape != (min(len(votes), _PROBED), k) or probed.dtype.kind != "f":
        raise ValueError(f"probabilities have the shape {probed.shape} and the type {probed.dtype}")
