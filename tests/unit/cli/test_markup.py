"""Printed text is never parsed as markup."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from kommuna.cli import here
from kommuna.cli.main import app, main
from kommuna.errors import SpecError

WORDS = "[/red] '[a-z]{2,}$' [bold]x[/bold] :smile: [link=x]"


def test_an_error_is_printed_unchanged(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def fail(**_: object) -> None:
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


@pytest.mark.parametrize("words", [WORDS, "a path/" + "x/" * 200, "два слова " * 40 + "."])
def test_a_command_prints_text_unchanged(words: str) -> None:
    for console in (here.console, here.message_console(as_json=True)):
        with console.capture() as captured:
            console.print(words)
        assert captured.get() == f"{words}\n"


def test_no_command_configures_printing_itself() -> None:
    folder = Path(here.__file__).parent
    said = [
        path.name
        for path in folder.rglob("*.py")
        if path.name not in ("here.py", "tables.py") and re.search(r"soft_wrap|Console\(", path.read_text())
    ]
    assert said == []
