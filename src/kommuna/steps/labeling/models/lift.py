"""What a vote is worth against its tag's base rate: the one place where a rule's precision becomes evidence."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from kommuna.steps.labeling.models.outcomes import Outcomes

Floats = NDArray[np.float64]

DEFAULT_PRECISION = 0.7  # of a vote that no dev row has judged, were all tags equally frequent
PRIOR_VOTES = 4.0  # dev votes that the rules' pooled lift weighs against a rule's own
_EDGE = 1e-6
_SURE = 0.97  # share of its tags' rows that an outcome is thought to happen on, at most
_HALVINGS = 40  # of an interval of 40 nats
_MOST = 20.0  # nats


def default_lift(tags_named: NDArray[np.integer], k: int) -> Floats:
    """The lift of a vote that no dev row has judged, in nats.

    The lift of a vote for the tags O is ``logit P(y in O | vote) - logit P(y in O)``: by how much the vote raises the
    log-odds of its tags over their base rate. Of a vote for one of k equally frequent tags that is right with
    probability .7, that is ``logit(.7) - logit(1 / k)``; a vote against one tag weighs as much as if there were two.

    Args:
        tags_named: how many of the k tags the vote speaks for.
    """
    share = np.clip(tags_named / k, _EDGE, 1 - _EDGE)
    return np.asarray(logit(DEFAULT_PRECISION) + np.maximum(-logit(share), 0))


def judged_lift(
    base_rate: Floats, right: Floats, votes: Floats, prior_lift: Floats, counts_for: Floats | None = None
) -> Floats:
    """Lifts of g rules from how often their votes are right on dev rows.

    Each is the likeliest under ``P(right) = expit(logit(base_rate) + lift)``, with `PRIOR_VOTES` further votes that are
    right as often as the pooled lift says. What all rules share, a shift of the prior lifts, is found first and in the
    same way; it leaves no rule's prior lift below zero, so only a rule's own votes can turn it round.

    Args:
        base_rate: g x v, the share of the tags that each of a rule's v kinds of vote speaks for.
        right: g x v, dev votes that are right.
        votes: g x v, dev votes.
        prior_lift: g, without dev rows.
        counts_for: g, what a rule counts for in the pooled lift; 1 where left out.
    Returns:
        g lifts.
    """
    chance = logit(np.clip(base_rate, _EDGE, 1 - _EDGE))
    cast = votes.sum(axis=1)
    if not cast.any():
        return prior_lift
    usual = chance + prior_lift[:, None]
    share = np.ones_like(usual) if counts_for is None else np.broadcast_to(counts_for[:, None], usual.shape)
    middle = np.array([[(usual * votes * share).sum() / (votes * share).sum()]])
    pooled = _likeliest(
        np.append(usual.reshape(1, -1), middle, axis=1),
        np.append((right * share).reshape(1, -1), PRIOR_VOTES * expit(middle), axis=1),
        np.append((votes * share).reshape(1, -1), [[PRIOR_VOTES]], axis=1),
    )
    prior = np.maximum(prior_lift + pooled, np.minimum(prior_lift, 0))
    if base_rate.shape[1] == 1:
        share = (right[:, 0] + PRIOR_VOTES * expit(chance[:, 0] + prior)) / (cast + PRIOR_VOTES)
        return np.asarray(logit(np.clip(share, _EDGE, 1 - _EDGE)) - chance[:, 0])
    own = np.divide((chance * votes).sum(axis=1), cast, out=np.zeros_like(cast), where=cast > 0)[:, None]
    found = _likeliest(
        np.append(chance, own, axis=1),
        np.append(right, PRIOR_VOTES * expit(own + prior[:, None]), axis=1),
        np.append(votes, np.full_like(own, PRIOR_VOTES), axis=1),
    )
    return np.where(cast > 0, found, prior)


def coverage_bound(found: Outcomes, seen: Floats, dev_counts: Floats, prior: Floats) -> Floats:
    """What is thought of ``theta[f, y] = P(outcome f | tag y)`` before votes are counted, f x k.

    An outcome that happens on a share c of the rows, for the tags O with precision a, has ``theta[f, y] = c a / pi(O)``
    for y in O and ``c (1 - a) / (1 - pi(O))`` for the rest: however it is split among tags, it adds up to what is seen.
    The precision is the base rate pi(O) and the outcome's lift, so a vote is evidence for its tag however rare it is;
    an outcome that happens more often than its tags is thought to have what precision that leaves. Outcomes of one
    event have one prior, for the tags of all its rules.

    Args:
        found: f outcomes of k tags.
        seen: f, the share of rows on which each happens.
        dev_counts: f x k, dev rows of each tag on which each happened.
        prior: k, the tags' shares.
    """
    owners = found.event_owners
    owned = np.clip(owners @ prior, _EDGE, 1 - _EDGE)
    usual = default_lift(owners.sum(axis=1), len(prior))
    most = np.clip(_SURE * owned / np.maximum(seen, _EDGE), _EDGE, _SURE)  # precision, were all rows of the tags hit
    usual = np.maximum(np.minimum(usual, logit(most) - logit(owned)), 0)
    lift = judged_lift(
        owned[:, None],
        np.where(owners, dev_counts, 0).sum(axis=1, keepdims=True),
        dev_counts.sum(axis=1, keepdims=True),
        usual,
        counts_for=1 / found.alike,
    )
    precision = expit(logit(owned) + lift)
    inside, outside = (precision / owned)[:, None], ((1 - precision) / (1 - owned))[:, None]
    base = np.where(owners, inside, outside) * seen[:, None]
    among = base / np.maximum(found.by_rule(base), 1e-12)
    return np.asarray(np.where(found.one_sided[:, None], np.clip(base, _EDGE, _SURE), among))


def never_against_its_own(found: Outcomes, theta: Floats, dev_counts: Floats, prior: Floats) -> Floats:
    """f x k frequencies in which an outcome is evidence against its own tags only where dev rows say so.

    An outcome that no dev row has judged is for no other tag likelier than for its own. One that dev rows have judged
    may be, for they tell on whose rows it happens, but it is not likelier on the other tags' rows together, unless its
    votes there were right more seldom than votes drawn at random.
    """
    judged, owned = dev_counts.sum(axis=1), found.owners @ prior
    unjudged = np.flatnonzero(judged == 0)
    right = np.einsum("fy,fy->f", dev_counts, found.owners)
    better = np.flatnonzero((judged > 0) & (right >= judged * owned))
    held = theta.copy()
    owners, free = found.owners[unjudged], theta[unjudged]
    own = np.where(owners, free, np.inf).min(axis=1, keepdims=True)
    held[unjudged] = np.where(owners, free, np.minimum(free, own))
    owners, free = found.owners[better], theta[better]
    others = np.where(owners, 0, free) @ prior / np.maximum(1 - owned[better], _EDGE)
    held[better] = np.where(owners, np.maximum(free, others[:, None]), free)
    return held


def _likeliest(offset: Floats, right: Floats, votes: Floats) -> Floats:
    """The x of each line under which ``Σ votes expit(offset + x) = Σ right``, by bisection."""
    low, high = np.full(len(offset), -_MOST), np.full(len(offset), _MOST)
    wanted = right.sum(axis=1)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        less = (votes * expit(offset + middle[:, None])).sum(axis=1) < wanted
        low, high = np.where(less, middle, low), np.where(less, high, middle)
    return np.asarray((low + high) / 2)
