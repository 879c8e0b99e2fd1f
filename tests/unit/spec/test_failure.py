"""Errors that cross a process: every class, every text, field by field."""

import re
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kommuna import errors
from kommuna.errors import KommunaError, LlmAnswerError, PlatformFault, RulesError, TeamMistake
from kommuna.spec.failure import Failure
from kommuna.spec.step import StepResult
from kommuna.store.lookup import RESULT_LIMIT_BYTES, bounded

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, KommunaError)]
TEXTS = st.text() | st.text("a\n :é\u2028", max_size=30) | st.sampled_from(["a\n  fix: b", "x" * 9000, "😀" * 3000])


def made(kind: type[KommunaError], what: str, where: str, fix: str) -> KommunaError:
    return kind(what, where=where, fix=fix, **dict.fromkeys(kind.details, "cut"))


def fields(error: KommunaError) -> dict[str, object]:
    return {"kind": type(error)} | vars(error) | {"args": error.args}


def test_every_class_of_the_tree_is_tried() -> None:
    assert len(KINDS) == len({kind.__name__ for kind in KINDS}) > 20


@given(kind=st.sampled_from(KINDS), what=TEXTS, where=TEXTS, fix=TEXTS)
@example(kind=RulesError, what="a", where="b", fix="first line\nsecond line")
def test_an_error_crosses_a_process_as_it_is(kind: type[KommunaError], what: str, where: str, fix: str) -> None:
    error = made(kind, what, where, fix)
    left = StepResult.failed(error).model_dump_json()
    came = StepResult.model_validate_json(left)
    assert came.failure is not None
    assert fields(came.failure.error()) == fields(error)
    assert (came.message, came.exit_code) == (str(error), error.exit_code)


@given(kind=st.sampled_from(KINDS), what=TEXTS, where=TEXTS, fix=TEXTS)
def test_a_result_fits_into_a_pods_last_words(kind: type[KommunaError], what: str, where: str, fix: str) -> None:
    result = bounded(StepResult.failed(made(kind, what, where, fix)))
    assert len(result.model_dump_json().encode()) <= RESULT_LIMIT_BYTES
    assert result.failure is not None
    assert type(result.failure.error()) is kind
    assert result.failure.what[:100] == what[:100]
    assert result.failure.fix[:100] == fix[:100]


def test_a_class_of_the_teams_own_is_its_nearest_ancestor_with_that_exit_code() -> None:
    class Late(RulesError):
        """Of the team."""

    class OutOfHours(PlatformFault):
        """Of the team, who asks for no retry."""

        exit_code = 2

    assert type(Failure.of(Late("x")).error()) is RulesError
    assert type(Failure.of(OutOfHours("x")).error()) is TeamMistake
    assert Failure.of(LlmAnswerError("x", reason="cut")).details == {"reason": "cut"}


@pytest.mark.parametrize(
    "text", ['{"exit_code": 2}', '{"exit_code": 0, "failure": {"kind": "RulesError", "what": "no"}}']
)
def test_a_result_that_contradicts_itself_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="has no failure, and one that fails has one"):
        StepResult.model_validate_json(text)


def test_fields_of_an_unknown_class_are_a_fault_of_the_platform() -> None:
    came = Failure(kind="FromALaterVersion", what="new", fix="do", details={"odd": "1"}).error()
    assert (type(came), came.what, came.fix) == (PlatformFault, "new", "do")


LINES = st.text().filter(lambda text: "\n  where: " not in text and "\n  fix: " not in text)


@given(what=LINES, where=LINES, fix=LINES)
def test_the_text_of_an_error_is_read_back(what: str, where: str, fix: str) -> None:
    error = RulesError(what, where=where, fix=fix)
    assert fields(RulesError.parse(str(error))) == fields(error)


def test_the_layout_of_an_error_stands_in_one_place() -> None:
    source = Path(errors.__file__).parent
    written = re.compile(r"(\\n|[\"'])  (fix|where): ")
    assert [path.name for path in source.rglob("*.py") if written.search(path.read_text())] == ["errors.py"]
