"""Fits one linear model of sentence embeddings from tag names, weak labels and dev rows.

Sentences with the same meaning lie close together, so three sources can be used in one space:

1. The tags' names: a text is scored by its similarity to each name (zero-shot), and a linear model of the dev rows
   whose penalty pulls towards these scores corrects them.
2. Each message gets the posterior q(y) ~ label_model(y)^trust * scores(y) of step 1: a product of two experts with
   different evidence. An exponent below one tempers an overconfident label model.
3. Linear discriminant analysis (Fisher 1936) of messages and dev rows on soft labels: q, after label spreading among
   near neighbours (`spreading`). A mean per tag tolerates wrong labels that a discriminative model would memorise.
4. A linear model of the dev rows, pulled towards `strength` times step 3.
5. A student: a logistic regression on the posterior of step 2 with the scores of step 4, spread as in step 3 or not.
   It uses all texts, where step 3 uses means. Last, a linear model of the dev rows, pulled towards `STUDENT` times the
   student.

The name weight, the penalties, `trust`, `strength`, whether there is a student and whether its labels are spread differ
from their defaults only if held-out dev rows improve by more than a standard error, and only if there is at least one
dev row per tag. With all of them at 0 only the dev rows are used, so meaningless names and harmful weak labels have no
effect.

On Banking77 with GPT-4o's keyword rules, by cross-validation within the dev rows alone: with 1,000 of them step 4 gives
.820 at its defaults and .842 at strength .0625 and penalty 100, with 500 .787 and .799 at .125 and 100 (three draws).
The student adds .014 and .013 (four draws). A trust of .1 is better than .25 and more at most sizes, by up to .01. A
second student, the covariance as a metric for the dev rows, and twice the pull to the student gained nothing.

Measured on other training rows (three draws), spreading raised accuracy with 125 clean rows from .665 to .704, with 250
from .763 to .770 and with 500 from .821 to .830. On TREC's questions, whose nearest neighbours are often of another
class, it costs .01 in step 3, and would cost .07 in the student with 30 rows: therefore step 5 spreads labels only if
held-out dev rows improve.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kommuna.steps.training.fit import soft_logistic
from kommuna.steps.training.fit.folds import MIN_ROWS, Folds
from kommuna.steps.training.fit.soft_logistic import Linear, Link, Matrix, RowSpace, log_losses, probabilities
from kommuna.steps.training.fit.spreading import neighbours, spread
from kommuna.steps.training.fit.training_data import TrainingData
from kommuna.steps.training.fit.weak_prior import FLOOR, best_sharpness, scaled

NAME_WEIGHTS = (0.0, 10.0, 15.0, 20.0)  # factor on the cosine similarity to a tag's name
PENALTIES = (10.0, 50.0, 250.0)
TEACHER_PENALTIES = (10.0, 100.0)
TRUSTS = (0.1, 0.25, 1.0)  # in the label model
STRENGTHS = (0.0625, 0.125, 0.25, 0.5)
STUDENT = 2.0  # strength of the pull towards the student; 0 leaves it out
STUDENT_PENALTY = 3.0
SHRINKAGE = 0.3  # of the covariance, towards its mean variance: .1 to .3 made no difference
DEV_ITERATIONS = 40


@dataclass(frozen=True)
class SemanticPriorChoice:
    """The parameters chosen on held-out dev rows; the defaults if there are too few."""

    name_weight: float = 15.0
    alone_penalty: float = 50.0
    alone_sharpness: float = 1.0
    penalty: float = 10.0
    trust: float = 0.25
    strength: float = 0.25
    teacher_penalty: float = TEACHER_PENALTIES[0]
    teacher_sharpness: float = 1.0
    student: float = STUDENT
    spread: bool = False  # the student's labels
    sharpness: float = 1.0
    held_out: Matrix | None = None
    held_out_dev_only: Matrix | None = None


@dataclass(frozen=True)
class FittedSemanticPrior:
    """The model, the model of the dev rows alone, and the chosen parameters."""

    model: Linear
    dev_only: Linear
    choice: SemanticPriorChoice


def fit(data: TrainingData, names: Matrix, folds: Folds) -> FittedSemanticPrior:
    """Fits the model described above.

    Args:
        data: embeddings and labels.
        names: `k x p` embeddings of the tags' names.
        folds: folds of the dev rows; their weak rows are those of the data.
    """
    graph = neighbours(np.vstack([data.weak, data.dev]))
    search = _Search(data, names, RowSpace(data.dev), graph)
    every = np.arange(len(data.dev))
    choice = _choose(search, folds)
    zero = search.from_names(0.0)
    dev_only = search.corrected(zero, every, choice.alone_penalty, free=True)
    model = search.teacher(every, choice)
    if choice.student:
        model = search.student(every, model, choice)
    return FittedSemanticPrior(scaled(model, choice.sharpness), scaled(dev_only, choice.alone_sharpness), choice)


@dataclass(frozen=True)
class _Search:
    """The steps described above, each fitted on a subset of the dev rows."""

    data: TrainingData
    names: Matrix
    space: RowSpace
    graph: Any  # of the weak rows, then the dev rows

    def from_names(self, weight: float) -> Linear:
        """Returns a model of the similarity to each tag's name."""
        intercept = np.zeros(len(self.names), np.float32)
        if self.data.link == "sigmoid":  # a similarity has no natural zero: the mean counts as even odds
            intercept = -np.float32(weight) * (self.data.dev @ self.names.T).mean(axis=0)
        return Linear(np.float32(weight) * np.ascontiguousarray(self.names.T), intercept)

    def corrected(self, prior: Linear, rows: Any, penalty: float, *, free: bool = False) -> Linear:
        """Fits a model of dev rows with a penalty towards `prior`; `free` exempts the intercept."""
        labels = self.data.dev_labels[rows]
        model = soft_logistic.fit(
            self.space.coordinates[rows],
            labels,
            link=self.data.link,
            inverse_penalty=penalty * self.data.dev_weight,
            offset=None if free else prior.scores(self.data.dev[rows]),
            iterations=DEV_ITERATIONS,
        )
        return self.space.lift(model).plus(prior)

    def teacher(self, rows: Any, choice: SemanticPriorChoice) -> Linear:
        """Fits steps 1 to 4, the teacher."""
        first = self.corrected(self.from_names(choice.name_weight), rows, choice.penalty)
        if not choice.strength:
            return first
        prior = self.discriminant(first, rows, choice.trust)
        return self.corrected(scaled(prior, choice.strength), rows, choice.teacher_penalty)

    def discriminant(self, first: Linear, rows: Any, trust: float) -> Linear:
        """Fits step 3 with the scores of step 1."""
        weak_labels = self.spread(self.posterior(first.scores(self.data.weak), trust), rows)
        x = np.vstack([self.data.weak, self.data.dev[rows]])
        return discriminant(x, np.vstack([weak_labels, self.data.dev_labels[rows]]), self.data.link)

    def student(self, rows: Any, teacher: Linear, choice: SemanticPriorChoice) -> Linear:
        """Fits step 5, the student."""
        weak = self.data.weak
        scores = np.float32(choice.teacher_sharpness) * teacher.scores(weak)
        weak_labels = self.posterior(scores, choice.trust)
        if choice.spread:
            weak_labels = self.spread(weak_labels, rows)
        student = soft_logistic.fit(
            weak, weak_labels, link=self.data.link, inverse_penalty=STUDENT_PENALTY, iterations=DEV_ITERATIONS
        )
        return self.corrected(scaled(student, STUDENT), rows, choice.penalty)

    def posterior(self, scores: Matrix, trust: float) -> Matrix:
        """Returns the posterior of step 2."""
        return posterior(self.data.weak_labels, scores, trust, self.data.link)

    def spread(self, weak_labels: Matrix, rows: Any) -> Matrix:
        """Spreads the labels of weak rows among neighbours; of the dev rows only `rows` contribute labels."""
        n, labels = len(weak_labels), self.data.dev_labels
        known = np.zeros(n + len(labels), dtype=np.bool_)
        known[:n] = True
        known[n + rows] = True
        return spread(self.graph, np.vstack([weak_labels, labels]), known)[:n]


def posterior(weak_labels: Matrix, scores: Matrix, trust: float, link: Link) -> Matrix:
    """Returns the product of the label model, raised to `trust`, and the scores' probabilities, `n x k`.

    Args:
        weak_labels: `n x k`, the label model's probabilities.
        scores: `n x k`, logits of the same rows.
        trust: the label model's exponent; 0 ignores it.
        link: softmax for one tag per row, sigmoid for several.
    """
    if link == "softmax":
        opinion = np.log(np.maximum(weak_labels, FLOOR))
    else:
        clipped = np.clip(weak_labels, FLOOR, 1 - FLOOR)
        opinion = np.log(clipped) - np.log1p(-clipped)
    return probabilities(np.asarray(scores + np.float32(trust) * opinion, dtype=np.float32), link)


def discriminant(rows: Matrix, labels: Matrix, link: Link) -> Linear:
    """Fits linear discriminant analysis on soft labels; with several tags, each tag against the other rows.

    Args:
        rows: `n x p`.
        labels: `n x k` probabilities; a tag without rows scores like the mean of all rows.
        link: softmax for one tag per row, sigmoid for several.
    """
    n, p = rows.shape
    mass = labels.sum(axis=0, dtype=np.float64)
    everyone = rows.mean(axis=0, dtype=np.float64)
    # The overall mean counts as one row: a tag with few rows stays near it.
    means = (labels.T.astype(np.float64) @ rows + everyone) / (mass + 1)[:, None]
    centred = rows - everyone.astype(np.float32)
    between = (means - everyone).T * (mass / max(float(mass.sum()), 1e-9)) @ (means - everyone)
    within = (centred.T @ centred).astype(np.float64) / n - between
    spread = max(float(np.trace(within)) / p, 1e-9)
    within = (1 - SHRINKAGE) * within + SHRINKAGE * spread * np.eye(p)
    coef = np.linalg.solve(within, means.T)
    intercept = -0.5 * (means.T * coef).sum(axis=0)
    if link == "sigmoid":
        others = (everyone * n - means * mass[:, None]) / np.maximum(n - mass, 1e-9)[:, None]
        against = np.linalg.solve(within, others.T)
        intercept += 0.5 * (others.T * against).sum(axis=0)
        intercept += np.log((mass + 1) / (n - mass + 1))
        coef = coef - against
    return Linear(coef.astype(np.float32), intercept.astype(np.float32))


def _choose(search: _Search, folds: Folds) -> SemanticPriorChoice:
    """Chooses parameters in stages: of the dev rows alone, the names, the weak labels, the student."""
    if len(search.data.dev_labels) < MIN_ROWS:
        return SemanticPriorChoice()
    stages = _Stages(search, folds)
    defaults, zero = SemanticPriorChoice(), search.from_names(0.0)

    def alone(penalty: float) -> Model:
        return lambda some, _, rows: some.corrected(zero, rows, penalty, free=True)

    def from_names(weight: float, penalty: float) -> Model:
        return lambda some, _, rows: some.corrected(some.from_names(weight), rows, penalty)

    first = stages.best({(c,): alone(c) for c in PENALTIES}, (defaults.alone_penalty,))
    names = stages.best(
        {(w, c): from_names(w, c) for w in NAME_WEIGHTS for c in PENALTIES[:2]},
        (defaults.name_weight, defaults.penalty),
    )
    choice = SemanticPriorChoice(
        alone_penalty=first.name[0],
        alone_sharpness=first.sharpness,
        held_out_dev_only=first.scores,
        name_weight=names.name[0],
        penalty=names.name[1],
        strength=0.0,
        student=0.0,
        sharpness=names.sharpness,
        held_out=names.scores,
    )
    if not len(search.data.weak):
        return choice
    priors = {
        trust: [some.discriminant(names.models[fold], rows, trust) for some, fold, rows, _ in stages.parts]
        for trust in TRUSTS
    }

    def fit_teacher(trust: float, strength: float, penalty: float) -> Model:
        return lambda some, fold, rows: some.corrected(scaled(priors[trust][fold], strength), rows, penalty)

    default = (defaults.trust, defaults.strength, defaults.teacher_penalty)
    teachers: dict[Name, Model] = {(t, s, default[2]): fit_teacher(t, s, default[2]) for t in TRUSTS for s in STRENGTHS}
    teacher = stages.best(teachers, default)
    trust, strength, _ = teacher.name
    milder: dict[Name, Model] = {(trust, strength, c): fit_teacher(trust, strength, c) for c in TEACHER_PENALTIES}
    teacher = stages.best(milder | {(trust, 0.0, 0.0): from_names(*names.name)}, teacher.name)
    choice = replace(
        choice,
        trust=trust,
        strength=teacher.name[1],
        teacher_penalty=teacher.name[2],
        teacher_sharpness=teacher.sharpness,
    )

    def fit_student(spreads: bool) -> Model:
        return lambda some, fold, rows: some.student(rows, teacher.models[fold], replace(choice, spread=spreads))

    students: dict[Name, Model] = {(STUDENT, spreads): fit_student(spreads) for spreads in (False, True)}
    last = stages.best(students | {(0.0, False): lambda _, fold, __: teacher.models[fold]}, (STUDENT, False))
    return replace(
        choice, student=last.name[0], spread=bool(last.name[1]), sharpness=last.sharpness, held_out=last.scores
    )


Name = tuple[float, ...]
Model = Callable[[_Search, int, Any], Linear]  # arguments: the search without a fold, the fold, and the other dev rows


class _Best(NamedTuple):
    """A candidate's name, its sharpness and scores on held-out dev rows, and the folds' models."""

    name: Name
    sharpness: float
    scores: Matrix
    models: list[Linear]


class _Stages:
    """Compares models on held-out dev rows."""

    def __init__(self, search: _Search, folds: Folds) -> None:
        self._search = search
        known = [replace(search.data, weak_labels=labels) for labels in folds.labels]
        self.parts = [(replace(search, data=known[fold]), fold, rows, held) for fold, rows, held in folds]

    def best(self, models: dict[Name, Model], default: Name) -> _Best:
        """Returns the model of least log loss, if it beats the default by more than a standard error."""
        link, labels = self._search.data.link, self._search.data.dev_labels
        if len(labels) < labels.shape[1]:  # too few rows to choose
            models = {default: models[default]}
        found: dict[Name, _Best] = {}
        losses: dict[Name, NDArray[np.float32]] = {}
        for name, make in models.items():
            scores, fitted = np.zeros_like(labels), []
            for some, fold, rows, held in self.parts:
                fitted.append(make(some, fold, rows))
                scores[held] = fitted[-1].scores(some.data.dev[held])
            sharpness, _ = best_sharpness(scores, labels, link)
            found[name] = _Best(name, sharpness, scores, fitted)
            losses[name] = log_losses(np.float32(sharpness) * scores, labels, link).sum(axis=1)
        best = min(losses, key=lambda name: float(losses[name].mean()))
        gain = losses[default] - losses[best]
        significant = gain.mean() > gain.std() / np.sqrt(len(labels))
        return found[best if significant else default]
