"""Cleans up after a program's predecessor, then runs its command: `python -m kommuna.embedded.launch NAME`.

A killed scheduler leaves its workers behind, and supervisord restarts only the process that it started. So each process
has its program's name in its environment, and ends the processes of the same name before it starts. It also records
each start, so that restarts can be counted.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from pathlib import Path

from kommuna.embedded.leftovers import PROGRAM_VARIABLE, STATE_VARIABLE, end_all, marked

COMMANDS = "commands.json"
STARTS_FOLDER = "starts"


def main() -> None:
    """Replaces this process with the command."""
    name = sys.argv[1]
    state = Path(os.environ[STATE_VARIABLE])
    command = json.loads((state / COMMANDS).read_text())[name]
    end_all(marked(str(state), program=name), grace_seconds=3)
    mark = state / STARTS_FOLDER / name
    with contextlib.suppress(OSError):  # a full disk
        mark.parent.mkdir(exist_ok=True)
        with mark.open("a") as starts:
            starts.write(f"{os.getpid()}\n")
    os.execvpe(command[0], command, {**os.environ, PROGRAM_VARIABLE: name})


def starts_of(state: Path, name: str) -> int:
    """Returns how often a program was started since the platform came up."""
    path = state / STARTS_FOLDER / name
    return len(path.read_text().splitlines()) if path.exists() else 0


if __name__ == "__main__":
    main()
