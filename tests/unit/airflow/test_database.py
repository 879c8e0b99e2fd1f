"""Pools of the description, and pools that it no longer has."""

from kommuna.airflow.database import obsolete_pools
from kommuna.spec.team import Platform

PLATFORM = Platform.read(
    {
        "teams": {
            "support": {"bundle": "a", "pools": {"default": 8, "heavy": 1}, "parallelism": 3},
            "fraud": {"bundle": "b"},
        }
    },
    where="test",
)


def test_each_pool_has_its_teams_prefix_and_slots_up_to_the_teams_parallelism() -> None:
    assert PLATFORM.pool_slots() == {
        "support__default": ("support", 3),
        "support__heavy": ("support", 1),
        "fraud__default": ("fraud", 4),
    }


def test_a_pool_with_fewer_slots_than_declared_is_reported() -> None:
    assert PLATFORM.reduced_pools() == ["pool support__default has 3 slots, not 8: team support has `parallelism: 3`"]


def test_a_teams_old_pool_is_obsolete_and_airflows_own_is_not() -> None:
    known = ["default_pool", "support__default", "support__old", "gone__default"]
    assert obsolete_pools(known, PLATFORM.pool_slots()) == ["gone__default", "support__old"]
