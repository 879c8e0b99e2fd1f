"""Names: no two public classes have the same one."""

import ast
from collections import defaultdict
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "src" / "kommuna"
SHARED = {"Model"}  # what a DAG file calls a registered model, and the client of one LLM


def test_a_class_name_has_one_meaning() -> None:
    found = defaultdict[str, list[str]](list)
    for path in sorted(SOURCE.rglob("*.py")):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found[node.name].append(str(path.relative_to(SOURCE)))
    assert {name: paths for name, paths in found.items() if len(paths) > 1 and name not in SHARED} == {}
