"""How the chart's programs end: with the exit code of their error, which is printed without a traceback."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import NoReturn

from kommuna.errors import KommunaError


def exit_with(main: Callable[[], int | None]) -> NoReturn:
    """Runs a program and exits with the code that it returns, or with that of its error."""
    try:
        sys.exit(main())
    except KommunaError as error:
        print(error, file=sys.stderr)  # noqa: T201
        sys.exit(error.exit_code)
