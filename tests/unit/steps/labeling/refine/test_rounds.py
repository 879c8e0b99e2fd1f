"""Stored rounds: each is complete or absent."""

import numpy as np
import pytest

from kommuna.errors import StoreError
from kommuna.spec.rules import Rule
from kommuna.spec.step import Services, StoreAddress
from kommuna.steps.labeling.refine.rounds import Round, Rounds, WrittenRule, bits


def a_round(number, **fields):
    return Round(number=number, rules=number, f1=0.1 * number, coverage=0.5, **fields)


def test_rounds_are_loaded_in_order(tmp_path):
    fired = np.arange(13) % 3 == 0
    written = WrittenRule(
        rule=Rule(name="r", tag="t", any=("x",)),
        origin="miner", round=1, right=3, cast=4, low=0.3, gain=0.01, slot="s", fired=bits(fired),
    )  # fmt: skip
    kept = Rounds.from_services(Services(shared=StoreAddress(url=tmp_path.as_uri()))).of("k" * 64)
    for number in range(3):
        kept.save(a_round(number, written=(written,) if number == 1 else ()))
    loaded = Rounds(StoreAddress(url=tmp_path.as_uri()), "k" * 64).load()
    assert [made.number for made in loaded] == [0, 1, 2]
    assert (loaded[1].written[0].fired_rows(13) == fired).all()


def test_rounds_of_another_run_are_not_loaded(tmp_path):
    shared = Rounds(StoreAddress(url=tmp_path.as_uri()))
    shared.of("a").save(a_round(0))
    assert shared.of("b").load() == []


def test_a_damaged_round_and_later_ones_are_not_loaded(tmp_path):
    kept = Rounds(StoreAddress(url=tmp_path.as_uri()), "k")
    for number in range(3):
        kept.save(a_round(number))
    (path,) = tmp_path.rglob("round-001.json")
    path.write_bytes(path.read_bytes().replace(b'"rules":1', b'"rules":9'))
    assert [made.number for made in kept.load()] == [0]
    kept.save(a_round(1))
    assert [made.number for made in kept.load()] == [0, 1]  # round 2 was made from the damaged one


def test_without_a_folder_no_round_is_stored(tmp_path):
    Rounds().of("k").save(a_round(0))
    assert Rounds().of("k").load() == []


def test_a_folder_that_cannot_be_written_is_a_store_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="the stored rounds cannot be read or written"):
        Rounds(StoreAddress(url=(tmp_path / "file").as_uri()), "k").save(a_round(0))


def test_rounds_are_stored_in_any_kind_of_store(tmp_path):
    kept = Rounds(StoreAddress(url="memory://refine-test"), "k")
    kept.save(a_round(0))
    assert [made.number for made in kept.load()] == [0]
