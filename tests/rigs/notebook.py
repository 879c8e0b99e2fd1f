"""`python tests/rigs/notebook.py FILE`: runs the cells of a notebook in this process, as a kernel would."""

from __future__ import annotations

import json
import sys
from pathlib import Path


def run_cells(path: Path) -> dict[str, object]:
    """Runs the cells of a notebook; returns its variables."""
    names: dict[str, object] = {"__name__": "__main__"}
    for number, cell in enumerate(json.loads(path.read_text(encoding="utf-8"))["cells"]):
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), f"{path.name}, cell {number}", "exec"), names)
    return names


if __name__ == "__main__":
    run_cells(Path(sys.argv[1]))
    print("optional libraries:", sorted({"airflow", "mlflow", "kubernetes", "openai", "torch"} & set(sys.modules)))
