"""The settings of both halves, and the errors where settings are missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from kommuna.airflow.isolation.settings import ParserAddress, ParserSettings
from kommuna.errors import PlatformFault, SpecError

PARSER = {
    "KOMMUNA_TEAM": "support",
    "KOMMUNA_PARSER_CERTIFICATE": "/tls.crt",
    "KOMMUNA_PARSER_KEY": "/tls.key",
    "KOMMUNA_PARSER_TOKEN_SHA256": "0" * 64,
    "KOMMUNA_PARSER_FOLDER": "/var/lib/kommuna",
}


def test_a_parser_has_defaults_for_optional_settings() -> None:
    settings = ParserSettings.of_environment(PARSER)
    assert (settings.listen, settings.processes, settings.memory) == ("0.0.0.0:8794", 2, "512Mi")


@pytest.mark.parametrize("name", sorted(PARSER))
def test_a_missing_variable_is_named(name: str) -> None:
    with pytest.raises(PlatformFault, match=f"the variable {name} is not set"):
        ParserSettings.of_environment({**PARSER, name: ""})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("KOMMUNA_PARSER_MEMORY", "much"),
        ("KOMMUNA_PARSER_TOKEN_SHA256", "the-token-itself"),
        ("KOMMUNA_PARSER_PROCESSES", "0"),
        ("KOMMUNA_PARSER_LISTEN", "8794"),
    ],
)
def test_an_invalid_value_is_refused(name: str, value: str) -> None:
    with pytest.raises(SpecError):
        ParserSettings.of_environment({**PARSER, name: value})


def test_the_token_comes_from_its_file_and_the_host_from_the_address(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("abc\n")
    told = {
        "KOMMUNA_PARSER_ADDRESS": "parser.team-support.svc:8794",
        "KOMMUNA_PARSER_CA": "/ca.crt",
        "KOMMUNA_PARSER_TOKEN_FILE": str(tmp_path / "token"),
    }
    address = ParserAddress.of_environment(told)
    assert (address.token, address.host, address.port) == ("abc", "parser.team-support.svc", 8794)
    (tmp_path / "token").unlink()
    with pytest.raises(PlatformFault, match="no file"):
        ParserAddress.of_environment(told)
