"""`make bench`: runs benchmarks, each with its peer in the same run, and prints JSON lines.

`python -m tests.benchmarks NAME…` runs only the benchmarks named.
"""

from __future__ import annotations

import importlib
import json
import pkgutil
import sys

import structlog
import tests.benchmarks as here


def main() -> None:
    """Runs every module of this package that has `results`."""
    names = [info.name for info in pkgutil.iter_modules(here.__path__) if not info.name.startswith("_")]
    unknown = set(sys.argv[1:]) - set(names)
    if unknown:
        sys.exit(f"no benchmark {', '.join(sorted(unknown))}; there are: {', '.join(names)}")
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    for name in sys.argv[1:] or names:
        for result in importlib.import_module(f"tests.benchmarks.{name}").results():
            print(json.dumps({"benchmark": name, **result}), flush=True)


if __name__ == "__main__":
    main()
