"""Lifts: how much a vote raises the log-odds of its tag over the base rate."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from kommuna.steps.labeling.models.outcomes import Outcomes

Floats = NDArray[np.float64]

DEFAULT_PRECISION = 0.7  # of a vote without dev rows, if all tags were equally frequent
PRIOR_VOTES = 4.0  # weight of the rules' pooled lift, in dev votes
_EPSILON = 1e-6
_MAX_RATE = 0.97  # highest share of its tags' rows on which an outcome can happen
_HALVINGS = 40  # of an interval of 40 nats, by bisection
_MAX_LIFT = 20.0  # nats


def default_lift(tags_named: NDArray[np.integer], k: int) -> Floats:
    """Returns the lift of a vote without dev rows, in nats.

    The lift of a vote for the tags O is ``logit P(y in O | vote) - logit P(y in O)``: how much the vote raises the
    log-odds of its tags over their base rate. A vote for one of k equally frequent tags that is right with probability
    .7 has the lift ``logit(.7) - logit(1 / k)``; a vote against one tag has the same weight as if there were two tags.

    Args:
        tags_named: how many of the k tags the vote is for.
        k: the number of tags.
    """
    share = np.clip(tags_named / k, _EPSILON, 1 - _EPSILON)
    return np.asarray(logit(DEFAULT_PRECISION) + np.maximum(-logit(share), 0))


def estimated_lift(
    base_rate: Floats, right: Floats, votes: Floats, prior_lift: Floats, counts_for: Floats | None = None
) -> Floats:
    """Estimates the lifts of g rules from how often their votes are right on dev rows.

    Each is the maximum-likelihood estimate under ``P(right) = expit(logit(base_rate) + lift)``, with `PRIOR_VOTES`
    additional votes that are right as often as the pooled lift predicts. The pooled lift, a shift of all prior lifts,
    is estimated first, in the same way. It leaves no rule's prior lift below zero: only a rule's own votes can make its
    lift negative.

    Args:
        base_rate: g x v, the share of rows with the tags that each of a rule's v kinds of vote is for.
        right: g x v, the number of dev votes that are right.
        votes: g x v, the number of dev votes.
        prior_lift: g, the lift without dev rows.
        counts_for: g, the weight of each rule in the pooled lift; 1 if left out.

    Returns:
        g lifts, in nats.
    """
    chance = logit(np.clip(base_rate, _EPSILON, 1 - _EPSILON))
    cast = votes.sum(axis=1)
    if not cast.any():
        return prior_lift
    prior_logit = chance + prior_lift[:, None]
    share = np.ones_like(prior_logit) if counts_for is None else np.broadcast_to(counts_for[:, None], prior_logit.shape)
    middle = np.array([[(prior_logit * votes * share).sum() / (votes * share).sum()]])
    pooled = _maximum_likelihood_shift(
        np.append(prior_logit.reshape(1, -1), middle, axis=1),
        np.append((right * share).reshape(1, -1), PRIOR_VOTES * expit(middle), axis=1),
        np.append((votes * share).reshape(1, -1), [[PRIOR_VOTES]], axis=1),
    )
    prior = np.maximum(prior_lift + pooled, np.minimum(prior_lift, 0))
    if base_rate.shape[1] == 1:
        share = (right[:, 0] + PRIOR_VOTES * expit(chance[:, 0] + prior)) / (cast + PRIOR_VOTES)
        return np.asarray(logit(np.clip(share, _EPSILON, 1 - _EPSILON)) - chance[:, 0])
    own_offset = np.divide((chance * votes).sum(axis=1), cast, out=np.zeros_like(cast), where=cast > 0)[:, None]
    found = _maximum_likelihood_shift(
        np.append(chance, own_offset, axis=1),
        np.append(right, PRIOR_VOTES * expit(own_offset + prior[:, None]), axis=1),
        np.append(votes, np.full_like(own_offset, PRIOR_VOTES), axis=1),
    )
    return np.where(cast > 0, found, prior)


def coverage_prior(found: Outcomes, frequency: Floats, dev_counts: Floats, prior: Floats) -> Floats:
    """Returns the prior mean of ``theta[f, y] = P(outcome f | tag y)``, f x k.

    An outcome that happens on a share c of the rows, for the tags O with precision a, has ``theta[f, y] = c a / pi(O)``
    for y in O and ``c (1 - a) / (1 - pi(O))`` for the rest: summed over the tags, it gives the observed coverage. The
    precision follows from the base rate pi(O) and the outcome's lift, so a vote is evidence for its tag however rare
    the tag is. An outcome that happens more often than its tags has at most the precision that this allows. Outcomes of
    one event have one prior, for the tags of all its rules.

    Args:
        found: f outcomes of k tags.
        frequency: f, the share of rows on which each outcome happens.
        dev_counts: f x k, dev rows of each tag on which each happened.
        prior: k, the tags' shares.
    """
    owners = found.event_owners
    owned = np.clip(owners @ prior, _EPSILON, 1 - _EPSILON)
    prior_logit = default_lift(owners.sum(axis=1), len(prior))
    most = np.clip(
        _MAX_RATE * owned / np.maximum(frequency, _EPSILON), _EPSILON, _MAX_RATE
    )  # precision if the outcome happened on all rows of its tags
    prior_logit = np.maximum(np.minimum(prior_logit, logit(most) - logit(owned)), 0)
    lift = estimated_lift(
        owned[:, None],
        np.einsum("fy,fy->f", owners, dev_counts)[:, None],
        dev_counts.sum(axis=1, keepdims=True),
        prior_logit,
        counts_for=1 / found.alike,
    )
    precision = expit(logit(owned) + lift)
    inside, outside = (precision / owned)[:, None], ((1 - precision) / (1 - owned))[:, None]
    base = np.where(owners, inside, outside) * frequency[:, None]
    among = base / np.maximum(found.by_rule(base), 1e-12)
    return np.asarray(np.where(found.one_sided[:, None], np.clip(base, _EPSILON, _MAX_RATE), among))


def limit_evidence_against_own_tags(found: Outcomes, theta: Floats, dev_counts: Floats, prior: Floats) -> Floats:
    """Limits theta so that an outcome is evidence against its own tags only where dev rows show it.

    An outcome without dev rows is at least as likely on its own tags' rows as on those of any other tag. An outcome
    with dev rows is at least as likely on its own tags' rows as on all other rows together, unless its votes on dev
    rows were right less often than chance.

    Args:
        found: f outcomes of k tags.
        theta: f x k, ``P(outcome f | tag y)``.
        dev_counts: f x k, dev rows of each tag on which each happened.
        prior: k, the tags' shares.
    """
    dev_total, owned = dev_counts.sum(axis=1), found.owners @ prior
    right = found.sum_over_owners(dev_counts)
    not_on_dev = dev_total == 0
    better_than_chance = (dev_total > 0) & (right >= dev_total * owned)
    most = np.where(not_on_dev, found.least_of_owners(theta), np.inf)
    outcome, tag = found.owner_cells
    own = np.bincount(outcome, weights=theta[outcome, tag] * prior[tag], minlength=len(found))
    others = (theta @ prior - own) / np.maximum(1 - owned, _EPSILON)
    least = np.where(better_than_chance, others, -np.inf)
    limited = np.minimum(theta, most[:, None])
    limited[outcome, tag] = np.maximum(theta[outcome, tag], least[outcome])
    return limited


def _maximum_likelihood_shift(offset: Floats, right: Floats, votes: Floats) -> Floats:
    """Solves ``Σ votes expit(offset + x) = Σ right`` for the x of each row, by bisection."""
    low, high = np.full(len(offset), -_MAX_LIFT), np.full(len(offset), _MAX_LIFT)
    wanted = right.sum(axis=1)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        less = (votes * expit(offset + middle[:, None])).sum(axis=1) < wanted
        low, high = np.where(less, middle, low), np.where(less, high, middle)
    return np.asarray((low + high) / 2)
