"""Runs a team's parser, configured by its environment (`settings`): `python -m kommuna.airflow.isolation.parser`."""

from __future__ import annotations

import asyncio
import logging
import os
import sys

from kommuna.airflow.isolation.parser.server import ParserServer
from kommuna.airflow.isolation.settings import ParserSettings
from kommuna.errors import KommunaError


def main() -> None:
    """Serves until it is stopped."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    try:
        settings = ParserSettings.of_environment()
    except KommunaError as error:
        sys.exit(str(error))
    for name in [name for name in os.environ if name.startswith("KOMMUNA_PARSER_")]:
        del os.environ[name]
    asyncio.run(ParserServer(settings).serve())


if __name__ == "__main__":
    main()
