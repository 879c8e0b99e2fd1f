"""Docstrings: a public function with three or more arguments describes them, under `Args:`."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "src" / "kommuna"
# Arguments that are described elsewhere: by the overridden method, the step that an operator runs, or the command.
OVERRIDES = ("execute_async", "predict")
UNDESCRIBED = {"steps/llm/faults.py: classify"}  # still to be described
BASES = {"SharedStepOperator", "Protocol"}
COMMAND = re.compile(r"@\w+\.(command|get)\(|typer\.Option\(")


def functions(tree: ast.Module | ast.ClassDef, of: ast.ClassDef | None = None) -> Iterator[tuple[str, int, str]]:
    """Yields the name, the number of arguments and the docstring of each public function."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            if BASES.isdisjoint(map(ast.unparse, node.bases)):
                yield from functions(node, node)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            is_made = of is not None and node.name == "__init__"
            is_command = COMMAND.search(ast.unparse(node)) is not None
            if is_command or node.name in OVERRIDES or (node.name.startswith("_") and not is_made):
                continue
            names = [argument.arg for argument in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
            names = [name for name in names if of is None or name not in ("self", "cls")]
            text = (ast.get_docstring(node) or "") + (ast.get_docstring(of) or "" if of is not None and is_made else "")
            yield (f"{of.name}.{node.name}" if of is not None else node.name), len(names), text


def test_a_public_function_with_three_or_more_arguments_describes_them() -> None:
    found = {
        f"{path.relative_to(SOURCE)}: {name}"
        for path in sorted(SOURCE.rglob("*.py"))
        for name, arguments, text in functions(ast.parse(path.read_text()))
        if arguments > 2 and "Args:" not in text
    }
    assert found <= UNDESCRIBED
