"""What is printed is people's words, never markup."""

from __future__ import annotations

import sys

import pytest

from kommuna.cli import here
from kommuna.cli.main import app, main
from kommuna.errors import SpecError

WORDS = "[/red] '[a-z]{2,}$' [bold]x[/bold] :smile: [link=x]"


def test_an_error_is_printed_as_it_is(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        raise SpecError(f"no {WORDS}", where=f"at {WORDS}", fix=f"write {WORDS}")

    monkeypatch.setattr("kommuna.cli.main.app", fail)
    monkeypatch.setattr(sys, "argv", ["kommuna"])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 2
    assert capsys.readouterr().err.splitlines() == [
        f"error: no {WORDS}", f"  where: at {WORDS}", f"  fix: write {WORDS}",
    ]  # fmt: skip
    assert app is not fail


def test_a_command_prints_text_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    for console in (here.console, here.voice(as_json=True)):
        with console.capture() as captured:
            console.print(WORDS, soft_wrap=True)
        assert captured.get() == f"{WORDS}\n"
