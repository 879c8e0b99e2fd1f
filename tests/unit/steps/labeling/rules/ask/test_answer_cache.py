"""The answer cache: segments are atomic, shared by concurrent writers, and merged without losing answers."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import polars as pl
import pytest

from kommuna.errors import StoreError
from kommuna.spec.step import StoreAddress
from kommuna.steps.labeling.rules.ask.answer_cache import MANY_SEGMENTS, AnswerCache, digest_of

CARD, LOAN = digest_of("Does it mention card?"), digest_of("Does it mention loan?")


@pytest.fixture
def answers(tmp_path: Path) -> AnswerCache:
    return AnswerCache(StoreAddress(url=tmp_path.as_uri()), model="tiny", prompt_version="1")


def rows(*found: tuple[str, bytes, int]) -> pl.DataFrame:
    return pl.DataFrame(
        [(digest_of(text), question, answer, None) for text, question, answer in found],
        schema={"text": pl.Binary, "question": pl.Binary, "answer": pl.Int8, "confidence": pl.Float32},
        orient="row",
    )


def known(answers: AnswerCache, *questions: bytes) -> set[tuple[bytes, bytes, int]]:
    return set(answers.load(questions).select("text", "question", "answer").iter_rows())


def files(tmp_path: Path) -> list[Path]:
    return sorted(path for path in tmp_path.rglob("*") if path.is_file())


def test_an_answer_is_found_by_text_and_question(answers: AnswerCache) -> None:
    assert known(answers, CARD) == set()
    answers.write(rows(("a", CARD, 1), ("a", LOAN, 0)))
    answers.write(rows(("b", CARD, -1)))
    assert known(answers, CARD) == {(digest_of("a"), CARD, 1), (digest_of("b"), CARD, -1)}
    assert known(answers, CARD, LOAN) == known(answers, CARD) | {(digest_of("a"), LOAN, 0)}


def test_answers_to_other_models_and_prompts_are_not_found(answers: AnswerCache, tmp_path: Path) -> None:
    answers.write(rows(("a", CARD, 1)))
    address = StoreAddress(url=tmp_path.as_uri())
    assert known(AnswerCache(address, model="tiny", prompt_version="2"), CARD) == set()
    assert known(AnswerCache(address, model="other", prompt_version="1"), CARD) == set()
    assert len(known(AnswerCache(address, model="tiny", prompt_version="1"), CARD)) == 1


def test_neither_texts_nor_questions_are_kept(answers: AnswerCache, tmp_path: Path) -> None:
    answers.write(rows(("a very private message", digest_of("Is it private?"), 1)))
    raw = b"".join(path.read_bytes() for path in files(tmp_path))
    assert b"private" not in raw
    assert digest_of("a very private message") in raw


def test_different_answers_to_two_runs_are_unknown_until_the_next_answer(tmp_path: Path) -> None:
    def loaded() -> AnswerCache:
        cache = AnswerCache(StoreAddress(url=tmp_path.as_uri()), model="tiny", prompt_version="1")
        cache.load([CARD])
        return cache

    both = (digest_of("b"), CARD, 1)
    first, second = loaded(), loaded()
    first.write(rows(("a", CARD, 1), ("b", CARD, 1)))
    second.write(rows(("a", CARD, 0), ("b", CARD, 1)))
    third, fourth = loaded(), loaded()
    assert known(third, CARD) == {both}
    assert third.contradicted.select("text", "question").rows() == [(digest_of("a"), CARD)]
    third.write(rows(("a", CARD, 0)))
    assert known(loaded(), CARD) == {both, (digest_of("a"), CARD, 0)}
    fourth.write(rows(("a", CARD, 1)))  # a run at the same time asked again, too
    fifth = loaded()
    assert known(fifth, CARD) == {both}
    fifth.write(rows(("a", CARD, 1)))
    assert known(loaded(), CARD) == {both, (digest_of("a"), CARD, 1)}


def test_many_segments_are_merged_into_one_with_the_same_answers(answers: AnswerCache, tmp_path: Path) -> None:
    for i in range(MANY_SEGMENTS - 1):
        answers.write(rows((str(i), CARD, i % 2), ("twice", CARD, i % 2), ("again", CARD, i % 2)))
    answers.load([CARD])
    answers.write(rows(("again", CARD, 1)))
    before = known(answers, CARD)
    assert len(files(tmp_path)) == MANY_SEGMENTS
    killed = files(tmp_path)[0].with_suffix(".part")
    killed.write_bytes(b"half")
    os.utime(killed, (0, 0))
    answers.merge()
    assert len(files(tmp_path)) == 1
    assert known(answers, CARD) == before
    assert (digest_of("again"), CARD, 1) in before
    assert digest_of("twice") not in {text for text, _, _ in before}
    answers.merge()
    assert len(files(tmp_path)) == 1


@pytest.mark.slow
def test_concurrent_readers_and_writers_miss_no_answer(tmp_path: Path) -> None:
    address = StoreAddress(url=tmp_path.as_uri())
    writers, each = 4, 40

    def write(number: int) -> None:
        mine = AnswerCache(address, model="tiny", prompt_version="1")
        for i in range(each):
            mine.write(rows((f"{number}-{i}", CARD, 1)))
            seen = {text for text, _, _ in known(mine, CARD)}
            if not {digest_of(f"{number}-{j}") for j in range(i + 1)} <= seen:
                missed.append(f"{number}-{i}")
            if i % 10 == 9:
                mine.merge()

    missed: list[str] = []
    threads = [threading.Thread(target=write, args=(number,)) for number in range(writers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert missed == []
    assert len(known(AnswerCache(address, model="tiny", prompt_version="1"), CARD)) == writers * each


def test_a_partially_written_segment_is_not_read(answers: AnswerCache, tmp_path: Path) -> None:
    answers.write(rows(("a", CARD, 1)))
    whole = files(tmp_path)[0]
    whole.with_name("killed.part").write_bytes(whole.read_bytes()[:40])
    assert len(known(answers, CARD)) == 1


def test_a_damaged_segment_is_set_aside_with_a_warning(
    answers: AnswerCache, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answers.write(rows(("a", CARD, 1)))
    path = files(tmp_path)[0]
    answers.write(rows(("b", CARD, 1)))
    path.write_bytes(path.read_bytes()[:-20])
    assert known(answers, CARD) == {(digest_of("b"), CARD, 1)}
    assert capsys.readouterr().out.count("shared_folder.damaged") == 1
    assert answers.damaged == 1
    assert not path.exists()
    assert path.with_name(f"{path.name}.damaged").exists()
    answers.write(rows(("a", CARD, 0)))
    assert len(known(answers, CARD)) == 2
    assert capsys.readouterr().out == ""


def test_no_flipped_bit_changes_an_answer(answers: AnswerCache, tmp_path: Path) -> None:
    answers.write(rows(*((str(i), CARD, i % 2) for i in range(20))))
    (path,) = files(tmp_path)
    whole = path.read_bytes()
    for bit in range(0, 8 * len(whole), 41):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        assert known(answers, CARD) == set(), bit


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "answers").write_text("a file where the folder should be")
    answers = AnswerCache(StoreAddress(url=tmp_path.as_uri()), model="tiny", prompt_version="1")
    with pytest.raises(StoreError, match="the stored answers cannot be read or written"):
        answers.write(rows(("a", CARD, 1)))
