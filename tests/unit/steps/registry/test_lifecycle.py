"""The life of a registered model as a table: each situation leads to the right champion, with the right sentence."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.rigs.promotion import add, champion_of, judged, scored

from kommuna.errors import KommunaError
from kommuna.spec.step import StepContext
from kommuna.steps.registry import pinning
from kommuna.steps.registry.client import Registry
from kommuna.steps.registry.model_version import ModelVersion
from kommuna.steps.registry.moving import Claim
from kommuna.steps.registry.promote import Promotion, promote
from kommuna.steps.registry.standing import CLAIM, PIN, SET, Pin
from kommuna.steps.training.evaluation.scores import SliceScore

pytestmark = pytest.mark.slow


@pytest.fixture
def registry(mlflow_server: str) -> Registry:
    return Registry(mlflow_server, "support")


@dataclass
class Model:
    """One registered model with versions 1, 2, 3, of which none is the champion."""

    registry: Registry
    name: str
    v1: ModelVersion
    v2: ModelVersion
    v3: ModelVersion

    def judge(self, version: ModelVersion, champion: ModelVersion | None, **options: Any) -> Promotion:
        return judged(self.registry, version, champion, **options)

    def by_hand(self, call: str, *arguments: Any) -> None:
        """What a person does in MLflow itself."""
        with self.registry.session() as client:
            getattr(client, call)(self.name, *arguments)

    def person(self, decision: Callable[..., Any], **options: Any) -> None:
        decision(self.registry, self.name, by="anna", **options)

    def tag(self, key: str, value: str) -> None:
        self.registry.set_model_tag(self.name, key, value)


@pytest.fixture
def model(registry: Registry, request: pytest.FixtureRequest) -> Model:
    name = request.node.callspec.params["name"] if hasattr(request.node, "callspec") else request.node.name[:100]
    return Model(registry, name, *(add(registry, name, digest * 64) for digest in "123"))


SITUATIONS: dict[str, tuple[Callable[[Model], Promotion | None], str, str, str]] = {}
"""Name to what happens, the last decision's outcome (or the error's class), the champion, and words of the sentence."""


def situation(outcome: str, champion: str, words: str) -> Callable[[Callable[[Model], Any]], Callable[[Model], Any]]:
    def add_to_table(what: Callable[[Model], Any]) -> Callable[[Model], Any]:
        SITUATIONS[what.__name__] = (what, outcome, champion, words)
        return what

    return add_to_table


# --- runs alone -------------------------------------------------------------------------------------------------------


@situation("promoted", "1", "the gate holds; there is no champion yet")
def a_first_version(m: Model) -> Promotion:
    return m.judge(m.v1, None)


@situation("refused", "", "f1_macro 0.6 < 0.7")
def a_first_version_that_is_too_weak(m: Model) -> Promotion:
    return m.judge(m.v1, None, f1_macro=0.6)


@situation("promoted", "2", "the gate holds")
def a_better_version(m: Model) -> Promotion:
    m.judge(m.v1, None)
    return m.judge(m.v2, m.v1)


@situation("refused", "1", "f1_macro 0.75 < champion.f1_macro - 0.01 0.89")
def a_worse_version(m: Model) -> Promotion:
    m.judge(m.v1, None)
    return m.judge(m.v2, m.v1, champion__f1_macro=0.9)


def chat(accuracy: float, champion: float | None = None) -> dict[str, Any]:
    """Options of a version with one slice and a gate over it."""
    found = SliceScore(
        name="chat", condition="channel = 'chat'", rows=40, accuracy=accuracy, low=0.0, high=1.0, f1_macro=accuracy,
        champion_accuracy=champion,
    )  # fmt: skip
    gate = "worst_slice.accuracy >= 0.5 and accuracy.chat >= champion.accuracy.chat - 0.05"
    return {"slices": (found,), "gate": gate, "worst_slice__accuracy": accuracy}


@situation("promoted", "1", "there is no champion yet")
def a_first_version_whose_slice_is_good(m: Model) -> Promotion:
    return m.judge(m.v1, None, **chat(0.6))


@situation("refused", "", "worst_slice.accuracy 0.4 < 0.5")
def a_first_version_with_a_weak_slice(m: Model) -> Promotion:
    return m.judge(m.v1, None, **chat(0.4))


@situation("refused", "1", "accuracy.chat 0.6 < champion.accuracy.chat - 0.05 0.65")
def a_better_version_whose_slice_is_worse(m: Model) -> Promotion:
    m.judge(m.v1, None)
    return m.judge(m.v2, m.v1, **chat(0.6, 0.7))


@situation("refused", "", "worst_slice.accuracy is nan")
def a_gate_over_slices_without_any(m: Model) -> Promotion:
    return m.judge(m.v1, None, gate="worst_slice.accuracy >= 0.5")


@situation("champion already", "1", "version 1 is the champion already")
def the_same_inputs_again(m: Model) -> Promotion:
    m.judge(m.v1, None)
    return m.judge(m.v1, None)


@situation("champion already", "2", "version 2 is the champion already")
def a_task_killed_after_the_move_runs_again(m: Model) -> Promotion:
    m.judge(m.v1, None)
    m.judge(m.v2, m.v1)
    return m.judge(m.v2, m.v1)


# --- two runs, cleared tasks ------------------------------------------------------------------------------------------


@situation("stale", "1", "compare with no champion, and version 1 is it now; clear")
def two_first_runs_at_once(m: Model) -> Promotion:
    m.judge(m.v1, None)
    return m.judge(m.v2, None, f1_macro=0.9)


@situation("stale", "2", "compare with another champion than version 2")
def two_later_runs_at_once(m: Model) -> Promotion:
    m.judge(m.v1, None)
    m.judge(m.v2, m.v1)
    return m.judge(m.v3, m.v1)


@situation("stale", "2", "compare with no champion, and version 2 is it now")
def the_promotion_of_an_old_run_is_cleared(m: Model) -> Promotion:
    m.judge(m.v1, None)
    m.judge(m.v2, m.v1)
    return m.judge(m.v1, None)


@situation("promoted", "2", "the gate holds")
def a_refused_promotion_is_cleared_with_a_lower_gate(m: Model) -> Promotion:
    m.judge(m.v1, None)
    scores = scored(m.v2, m.v1, f1_macro=0.6)
    assert promote(m.v2, scores, gate="f1_macro >= 0.7", registry=m.registry).promotion.outcome == "refused"
    return promote(m.v2, scores, gate="f1_macro >= 0.5", registry=m.registry).promotion


@situation("stale", "1", "version 3 was judged on other gold rows since")
def an_old_promotion_is_cleared_after_gold_has_changed(m: Model) -> Promotion:
    m.judge(m.v1, None)
    m.judge(m.v2, m.v1, f1_macro=0.1)
    m.judge(m.v3, m.v1, f1_macro=0.1, gold="8" * 64)
    return m.judge(m.v2, m.v1)


@situation("promoted", "3", "the gate holds")
def a_new_version_on_new_gold(m: Model) -> Promotion:
    m.judge(m.v1, None)
    return m.judge(m.v3, m.v1, gold="8" * 64)


@situation("stale", "1", "the scores are of another model than version 2")
def the_scores_are_of_another_model(m: Model) -> Promotion:
    m.judge(m.v1, None)
    return promote(m.v2, scored(m.v3, m.v1), gate="f1_macro > 0", registry=m.registry).promotion


@situation("stale", "1", "the scores do not say which champion they compare with")
def scores_of_a_former_release(m: Model) -> Promotion:
    m.judge(m.v1, None)
    scores = scored(m.v2, m.v1).model_copy(update={"compared": None})
    return promote(m.v2, scores, gate="f1_macro > 0", registry=m.registry).promotion


@situation("promoted", "2", "the gate holds")
def scores_of_a_teams_own_step_for_a_first_version(m: Model) -> Promotion:
    scores = scored(m.v2, None).model_copy(update={"compared": None})
    return promote(m.v2, scores, gate="f1_macro > 0", registry=m.registry).promotion


# --- by hand in MLflow ------------------------------------------------------------------------------------------------


@situation(
    "pinned", "1", "version 1 was made champion by hand, after version 2; a person lifts it with `kommuna models unpin"
)
def the_alias_is_moved_back_in_mlflow(m: Model) -> Promotion:
    m.judge(m.v1, None)
    m.judge(m.v2, m.v1)
    m.by_hand("set_registered_model_alias", "champion", "1")
    return m.judge(m.v2, m.v1)


@situation("pinned", "", "the alias 'champion' was taken from version 1 by hand")
def the_alias_is_removed_in_mlflow(m: Model) -> Promotion:
    m.judge(m.v1, None)
    m.by_hand("delete_registered_model_alias", "champion")
    return m.judge(m.v2, None)


@situation("promoted", "3", "the gate holds")
def a_hand_made_champion_is_unpinned(m: Model) -> Promotion:
    m.judge(m.v1, None)
    m.by_hand("set_registered_model_alias", "champion", "2")
    assert m.judge(m.v3, m.v2).outcome == "pinned"
    m.person(pinning.unpin)
    return m.judge(m.v3, m.v2)


@situation("promoted", "1", "no champion yet")
def a_removed_alias_is_unpinned(m: Model) -> Promotion:
    m.judge(m.v1, None)
    m.by_hand("delete_registered_model_alias", "champion")
    m.person(pinning.unpin)
    return m.judge(m.v1, None)


@situation("promoted", "2", "the gate holds")
def a_champion_from_before_the_record(m: Model) -> Promotion:
    m.by_hand("set_registered_model_alias", "champion", "1")
    return m.judge(m.v2, m.v1)


@situation("promoted", "1", "the gate holds")
def a_champion_that_kommuna_did_not_register_was_evaluated(m: Model) -> Promotion:
    foreign = add(m.registry, m.name)
    m.by_hand("set_registered_model_alias", "champion", foreign.version)
    return m.judge(m.v1, foreign)


@situation("stale", "4", "compare with no champion, and version 4 is it now")
def a_champion_that_kommuna_did_not_register_was_not_evaluated(m: Model) -> Promotion:
    foreign = add(m.registry, m.name)
    m.by_hand("set_registered_model_alias", "champion", foreign.version)
    return m.judge(m.v1, None)


@situation("stale", "1", "version 2 is archived in MLflow")
def the_version_is_archived(m: Model) -> Promotion:
    m.judge(m.v1, None)
    m.by_hand("transition_model_version_stage", "2", "Archived")
    return m.judge(m.v2, m.v1)


# --- pins -------------------------------------------------------------------------------------------------------------


@situation("pinned", "1", "anna pinned version 1: complaints; a person lifts it")
def the_champion_is_pinned(m: Model) -> Promotion:
    m.judge(m.v1, None)
    m.person(pinning.pin, reason="complaints")
    return m.judge(m.v2, m.v1)


@situation("pinned", "1", "anna pinned version 1 until 2")
def a_rollback_and_the_same_inputs_again(m: Model) -> Promotion:
    m.judge(m.v1, None)
    m.judge(m.v2, m.v1)
    m.person(pinning.rollback, reason="complaints", until=datetime.now(UTC) + timedelta(days=1))
    return m.judge(m.v2, m.v1)


@situation("promoted", "2", "the gate holds")
def a_rollback_is_lifted(m: Model) -> Promotion:
    m.judge(m.v1, None)
    m.judge(m.v2, m.v1)
    m.person(pinning.rollback, reason="complaints")
    m.person(pinning.unpin)
    return m.judge(m.v2, m.v1)


@situation("promoted", "2", "the gate holds")
def a_pin_has_ended(m: Model) -> Promotion:
    m.judge(m.v1, None)
    now = datetime.now(UTC)
    pin = Pin(version="1", by="anna", reason="x", at=now, until=now - timedelta(seconds=1))
    m.tag(PIN, pin.model_dump_json())
    return m.judge(m.v2, m.v1)


@situation("pinned", "1", "somebody pinned version ?: please leave it")
def a_pin_written_by_hand(m: Model) -> Promotion:
    m.judge(m.v1, None)
    m.tag(PIN, "please leave it")
    return m.judge(m.v2, m.v1)


@situation("champion already", "3", "version 3 is the champion already")
def a_pinned_version_is_judged(m: Model) -> Promotion:
    m.person(pinning.pin, version="3", reason="the only one that is checked")
    return m.judge(m.v3, None)


# --- deleted things ---------------------------------------------------------------------------------------------------


@situation("promoted", "2", "no champion yet")
def the_champion_is_deleted(m: Model) -> Promotion:
    m.judge(m.v1, None)
    m.by_hand("delete_model_version", "1")
    return m.judge(m.v2, None)


@situation("stale", "", "has none any more")
def the_champion_is_deleted_after_the_evaluation(m: Model) -> Promotion:
    m.judge(m.v1, None)
    m.by_hand("delete_model_version", "1")
    return m.judge(m.v2, m.v1)


@situation("SpecError", "1", "version 2 of '.*' is not in the registry any more")
def the_version_is_deleted(m: Model) -> Promotion:
    m.judge(m.v1, None)
    m.by_hand("delete_model_version", "2")
    return m.judge(m.v2, m.v1)


@situation("SpecError", "", "there is no registered model")
def the_model_is_deleted(m: Model) -> Promotion:
    m.by_hand("delete_registered_model")
    return m.judge(m.v2, None)


# --- kills and restored databases -------------------------------------------------------------------------------------


@situation("promoted", "2", "the gate holds")
def a_task_was_killed_before_the_move(m: Model) -> Promotion:
    m.judge(m.v1, None)
    m.tag(f"{CLAIM}0", Claim(by="killed", until=time.time() - 1, to="3").model_dump_json())
    return m.judge(m.v2, m.v1)


@situation("promoted", "3", "the gate holds")
def a_task_was_killed_after_the_move(m: Model) -> Promotion:
    m.judge(m.v1, None)
    m.tag(f"{CLAIM}0", Claim(by="killed", until=time.time() - 1, to="2").model_dump_json())
    m.by_hand("set_registered_model_alias", "champion", "2")
    return m.judge(m.v3, m.v2)


@situation("promoted", "2", "the gate holds")
def a_claim_that_cannot_be_read(m: Model) -> Promotion:
    m.judge(m.v1, None)
    m.tag(f"{CLAIM}0", "?")
    return m.judge(m.v2, m.v1)


@situation("stale", "1", "compare with another champion than version 1")
def the_database_is_restored_to_an_earlier_champion(m: Model) -> Promotion:
    """Alias and record go back together, so that this is no move by hand."""
    m.judge(m.v1, None)
    m.judge(m.v2, m.v1)
    m.by_hand("set_registered_model_alias", "champion", "1")
    m.tag(SET, "1")
    return m.judge(m.v3, m.v2)


@situation("stale", "1", "compare with another champion than version 1")
def the_database_is_restored_and_the_number_means_another_model(m: Model) -> Promotion:
    m.judge(m.v1, None)
    return m.judge(m.v2, m.v1.model_copy(update={"identity": "7" * 64}))


def test_there_are_thirty_situations() -> None:
    assert len(SITUATIONS) >= 30


@pytest.mark.parametrize("name", SITUATIONS)
def test_a_situation_leads_to_the_right_champion_with_the_right_sentence(name: str, model: Model) -> None:
    what, outcome, champion, words = SITUATIONS[name]
    try:
        found = what(model)
        assert found is not None
        said, ended, promoted = found.reason, str(found.outcome), found.promoted
        assert promoted == (found.version == champion)
    except KommunaError as error:
        said, ended = error.what, type(error).__name__
    assert ended == outcome, said
    assert re.search(words if ended == "SpecError" else re.escape(words), said), said
    assert champion_of(model.registry, model.name) == champion
    if name != "the_model_is_deleted":
        assert model.registry.standing(model.name).claims == {}


def test_decisions_of_people_and_gates_are_in_the_history(model: Model) -> None:
    model.judge(model.v1, None)
    model.judge(model.v2, model.v1)
    model.person(pinning.rollback, reason="complaints")
    model.person(pinning.unpin, reason="it was the weather")
    found = model.registry.standing(model.name)
    assert [(one.action, one.before, one.after) for one in found.history] == [
        ("promoted", "", "1"), ("promoted", "1", "2"), ("rolled back", "2", "1"), ("unpinned", "1", "1"),
    ]  # fmt: skip
    assert [one.by for one in found.history][1:] == ["the gate of support__topics, run manual__1", "anna", "anna"]
    assert found.held() == ""


def test_what_a_person_cannot_decide_is_refused_with_a_reason(model: Model) -> None:
    for decision, options, words in (
        (pinning.pin, {"reason": "x"}, "has no champion to pin"),
        (pinning.pin, {"reason": " ", "version": "1"}, "a pin needs a reason"),
        (pinning.pin, {"reason": "x", "version": "9"}, "has no version 9"),
        (pinning.pin, {"reason": "x", "version": "1", "until": datetime(2020, 1, 1, tzinfo=UTC)}, "is over"),
        (pinning.rollback, {"reason": "x"}, "no former champion .* is recorded"),
        (pinning.unpin, {}, "is not pinned"),
    ):
        with pytest.raises(KommunaError, match=words):
            model.person(decision, **options)
    assert model.registry.standing(model.name).pin is None


def test_a_decision_names_no_run_where_there_is_none(model: Model) -> None:
    context = StepContext(team="support")
    promote(model.v1, scored(model.v1, None), gate="f1_macro > 0", context=context, registry=model.registry)
    assert model.registry.standing(model.name).history[0].by == "the gate of support"
