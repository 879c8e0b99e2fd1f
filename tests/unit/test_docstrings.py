"""Docstrings: a public function with three or more arguments describes them, under `Args:`."""

import ast
from collections.abc import Iterator
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "src" / "kommuna"
# Their arguments are described elsewhere: by the overridden method, by the step that an operator runs, by `typer`, by the route.
OVERRIDES = ("execute_async", "predict")
BASES = {"SharedStepOperator", "Protocol"}
COMMANDS = ("typer.Option", "app.get")


def functions(tree: ast.Module | ast.ClassDef, of: ast.ClassDef | None = None) -> Iterator[tuple[str, int, str]]:
    """Yields the name, the number of arguments and the docstring of each public function."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            if BASES.isdisjoint(map(ast.unparse, node.bases)):
                yield from functions(node, node)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            is_made = of is not None and node.name == "__init__"
            decorated = [
                word for decorator in node.decorator_list for word in COMMANDS if word in ast.unparse(decorator)
            ]
            if decorated or node.name in OVERRIDES or (node.name.startswith("_") and not is_made):
                continue
            names = [argument.arg for argument in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
            names = [name for name in names if of is None or name not in ("self", "cls")]
            text = (ast.get_docstring(node) or "") + (ast.get_docstring(of) or "" if of is not None and is_made else "")
            yield (f"{of.name}.{node.name}" if of is not None else node.name), len(names), text


def test_a_public_function_with_three_or_more_arguments_describes_them() -> None:
    found = [
        f"{path.relative_to(SOURCE)}: {name}"
        for path in sorted(SOURCE.rglob("*.py"))
        for name, arguments, text in functions(ast.parse(path.read_text()))
        if arguments > 2 and "Args:" not in text
    ]
    assert found == []
