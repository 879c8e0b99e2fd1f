"""The settings of both halves, read from the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import Field, StringConstraints

from kommuna.errors import PlatformFault
from kommuna.spec.base import Spec
from kommuna.spec.installation import TEAM_VARIABLE
from kommuna.spec.names import TeamName
from kommuna.spec.resources import Memory

ADDRESS = "KOMMUNA_PARSER_ADDRESS"
CA = "KOMMUNA_PARSER_CA"
TOKEN_FILE = "KOMMUNA_PARSER_TOKEN_FILE"
LISTEN = "KOMMUNA_PARSER_LISTEN"
CERTIFICATE = "KOMMUNA_PARSER_CERTIFICATE"
KEY = "KOMMUNA_PARSER_KEY"
TOKEN_DIGEST = "KOMMUNA_PARSER_TOKEN_SHA256"
FOLDER = "KOMMUNA_PARSER_FOLDER"
PROCESSES = "KOMMUNA_PARSER_PROCESSES"
MEMORY = "KOMMUNA_PARSER_MEMORY"
DEFAULT_PORT = 8794

Address = Annotated[str, StringConstraints(pattern=r"^[^:\s]+:[0-9]{1,5}$")]


class ParserAddress(Spec):
    """How a processor reaches its team's parser: the address, the CA of its certificate, and the token."""

    address: Address
    ca: Path
    token: str

    @property
    def host(self) -> str:
        """The host name, which the certificate must contain."""
        return self.address.rpartition(":")[0]

    @property
    def port(self) -> int:
        """The port."""
        return int(self.address.rpartition(":")[2])

    @classmethod
    def of_environment(cls, environment: Mapping[str, str] = os.environ) -> ParserAddress:
        """Reads the processor's environment.

        Raises:
            PlatformFault: a variable, or the file that it names, is missing.
        """
        token = Path(_required(environment, TOKEN_FILE))
        if not token.is_file():
            raise PlatformFault(f"no file {token}", where=TOKEN_FILE, fix="mount the Secret of the parser's token")
        fields = {
            "address": _required(environment, ADDRESS),
            "ca": _required(environment, CA),
            "token": token.read_text().strip(),
        }
        return cls.read(fields, where="the processor's environment")


class ParserSettings(Spec):
    """The settings of a parser. None of them gives access to anything but this parser."""

    team: TeamName
    listen: Address = f"0.0.0.0:{DEFAULT_PORT}"
    certificate: Path
    key: Path
    token_digest: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    folder: Path
    processes: int = Field(2, gt=0)
    memory: Memory = "512Mi"

    @classmethod
    def of_environment(cls, environment: Mapping[str, str] = os.environ) -> ParserSettings:
        """Reads the parser's environment.

        Raises:
            PlatformFault: a variable is missing.
        """
        optional = {"listen": LISTEN, "processes": PROCESSES, "memory": MEMORY}
        fields = {
            "team": _required(environment, TEAM_VARIABLE),
            "certificate": _required(environment, CERTIFICATE),
            "key": _required(environment, KEY),
            "token_digest": _required(environment, TOKEN_DIGEST),
            "folder": _required(environment, FOLDER),
            **{field: environment[name] for field, name in optional.items() if environment.get(name)},
        }
        return cls.read(fields, where="the parser's environment")


def _required(environment: Mapping[str, str], name: str) -> str:
    value = environment.get(name, "")
    if not value:
        raise PlatformFault(f"the variable {name} is not set", fix="see docs/decisions/0005-split-dag-processor.md")
    return value
