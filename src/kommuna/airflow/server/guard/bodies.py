"""Judges what a task's requests carry: the state that it reports, with triggers, assets and dates, and runs it starts.

Airflow stores these values, and its scheduler, API server and triggerer decode them, call what they name and calculate
with their dates.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from kommuna.airflow.admission.rules import LONGEST_DELAY, address_fits
from kommuna.airflow.server.guard.facts import Facts
from kommuna.airflow.triggers.allowed import MAX_CARRIED, judge_carried, judge_trigger, too_large
from kommuna.errors import TeamMistake
from kommuna.spec.names import owner_of

_ENDS = ("success", "failed", "skipped", "removed", "upstream_failed", "up_for_retry", "up_for_reschedule")
_WAITS = ("deferred", "awaiting_input")
_EARLIEST = datetime(1900, 1, 1, tzinfo=UTC)  # of a run's dates: Airflow calculates intervals before it
_NAMED = {"Asset": "asset", "AssetNameRef": "asset", "AssetAlias": "asset alias"}


class BodyRefused(Exception):
    """The body is refused; the text says why and what would be allowed."""


@dataclass(frozen=True)
class Judge:
    """Judges the bodies of one team's requests.

    Args:
        team: the team of the task.
        facts: what the database says about the assets that the body names by address.
        now: the time, with a time zone.
    """

    team: str
    facts: Facts
    now: datetime

    def state(self, body: Any) -> None:
        """Judges a change of the task's own state.

        Raises:
            BodyRefused: the state is not one that a task reports, or what comes with it is not allowed.
        """
        state = body.get("state") if isinstance(body, dict) else None
        if state not in _ENDS + _WAITS:
            raise BodyRefused(f"a task does not report the state {json.dumps(state)[:100]}")
        for name in ("end_date", "reschedule_date"):
            self._near(body, name)
        delay = body.get("retry_delay_seconds")
        if delay is not None and not (_is_number(delay) and 0 <= delay <= LONGEST_DELAY):
            raise BodyRefused(f"retry_delay_seconds: keep it between 0 and {LONGEST_DELAY}")
        if state in _WAITS:
            self._wait(body)
        for outlet in _list(body, "task_outlets"):
            self._outlet(outlet)
        for event in _list(body, "outlet_events"):
            self._event(event)

    def trigger(self, body: Any) -> None:
        """Judges a new run of a DAG.

        Raises:
            BodyRefused: a date is beyond what Airflow's scheduler can calculate with.
        """
        if body is None:
            return
        if not isinstance(body, dict):
            raise BodyRefused("the body is not a JSON object")
        for name in ("logical_date", "run_after"):
            moment = _moment(body, name)
            if moment is not None and not _EARLIEST <= moment <= self.now + timedelta(seconds=LONGEST_DELAY):
                raise BodyRefused(f"{name}: keep it between {_EARLIEST:%Y} and {LONGEST_DELAY} s from now")

    def _wait(self, body: Mapping[str, Any]) -> None:
        carried = body.get("next_kwargs") or {}
        arguments = body.get("trigger_kwargs") or {}
        text = arguments if isinstance(arguments, str) else json.dumps(arguments)
        try:
            if len(json.dumps(carried)) > MAX_CARRIED:
                raise too_large(len(text), len(json.dumps(carried)))
            if isinstance(carried, str):
                raise BodyRefused("next_kwargs is not a JSON object")
            judge_carried(carried)
            if body["state"] == "deferred":
                judge_trigger(str(body.get("classpath")), text, team=self.team, now=self.now)
        except TeamMistake as mistake:
            raise BodyRefused(str(mistake)) from None

    def _outlet(self, outlet: Any) -> None:
        kind = outlet.get("type") if isinstance(outlet, dict) else None
        if kind == "AssetUriRef":
            self._address(outlet.get("uri"))
        elif kind in _NAMED:
            self._own_asset(outlet.get("name"), _NAMED[kind])
        else:
            raise BodyRefused(f"task_outlets: {json.dumps(kind)[:100]} is not a kind of asset")

    def _event(self, event: Any) -> None:
        key = event.get("dest_asset_key") if isinstance(event, dict) else None
        if not isinstance(key, dict):
            raise BodyRefused("outlet_events: 'dest_asset_key' is missing")
        name, uri = key.get("name"), key.get("uri")
        self._own_asset(name, "asset")
        if event.get("source_alias_name") is not None:  # Airflow creates the asset if there is none
            self._own_asset(event["source_alias_name"], "asset alias")
            if not (isinstance(uri, str) and address_fits(str(name), uri, self.team)):
                raise BodyRefused(
                    f"the asset '{name}' has the address '{uri}': leave it out, or use an address with the part "
                    f"'/{self.team}/'"
                )

    def _own_asset(self, name: Any, kind: str) -> None:
        if not isinstance(name, str) or owner_of(name) != self.team:
            raise BodyRefused(f"the {kind} '{name}' does not belong to team '{self.team}': name one that begins with "
                          f"'{self.team}__'")  # fmt: skip

    def _address(self, uri: Any) -> None:
        names = self.facts.assets_at.get(uri, frozenset()) if isinstance(uri, str) else frozenset()
        if not names or any(owner_of(name) != self.team for name in names):
            raise BodyRefused(f"the asset at '{uri}' does not belong to team '{self.team}'")

    def _near(self, body: Mapping[str, Any], name: str) -> None:
        moment = _moment(body, name)
        if moment is not None and abs(moment - self.now) > timedelta(seconds=LONGEST_DELAY):
            raise BodyRefused(f"{name}: keep it within {LONGEST_DELAY} s from now")


def addresses(body: Any) -> frozenset[str]:
    """Returns the addresses by which a report of success names assets."""
    outlets = body.get("task_outlets") if isinstance(body, dict) else None
    return frozenset(
        outlet["uri"]
        for outlet in (outlets if isinstance(outlets, list) else ())
        if isinstance(outlet, dict) and outlet.get("type") == "AssetUriRef" and isinstance(outlet.get("uri"), str)
    )


def _list(body: Mapping[str, Any], name: str) -> Iterator[Any]:
    found = body.get(name) or []
    if not isinstance(found, list):
        raise BodyRefused(f"'{name}' is not a list")
    yield from found


def _moment(body: Mapping[str, Any], name: str) -> datetime | None:
    """Reads a date as Airflow's models do: a text in ISO 8601, or seconds since 1970."""
    value = body.get(name)
    if value is None:
        return None
    from pydantic import AwareDatetime, TypeAdapter, ValidationError

    try:
        return TypeAdapter(AwareDatetime).validate_python(value).astimezone(UTC)
    except (ValidationError, OverflowError):
        raise BodyRefused(f"{name}: it must be a date and time with a time zone") from None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
