"""Pages of the site that are made from elsewhere: the front page from README.md, the reference from the code."""

from __future__ import annotations

import importlib
import inspect
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from griffe import Docstring, DocstringSectionKind
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

import kommuna
from kommuna.spec.versions import code_of

ROOT = Path(__file__).resolve().parent.parent


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages before the site is built."""
    made = {
        "index.md": front_page(),
        "reference/library.md": library(),
        "reference/operators.md": operators(),
        "reference/cli.md": commands(),
        "reference/values.md": chart_values(),
        "reference/errors.md": "# Errors\n\n::: kommuna.errors\n    options: {show_root_heading: false}\n",
    }
    for name, content in made.items():
        files.append(File.generated(config, name, content=content))
    return files


def front_page() -> str:
    """README.md, whose links lead to pages; what is no page is no link."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    text = text.replace("](docs/decisions)", "](decisions/0001-store-is-the-truth-of-models.md)")
    text = re.sub(r"\[([^\]]+)\]\((?!docs/|decisions/)[^)]*\)", r"\1", text)
    return text.replace("](docs/", "](").replace("[docs/", "[")


def library() -> str:
    """What `from kommuna import …` offers."""
    offered = (getattr(kommuna, name) for name in kommuna.__all__ if name != "KommunaError")  # among the errors
    return "# Library\n\n`from kommuna import …` offers:\n\n" + "".join(
        f"::: {each.__module__}.{each.__name__}\n" for each in offered
    )


def operators() -> str:
    """The operators and DAG templates that DAG files import."""
    import kommuna.airflow

    offered = (getattr(kommuna.airflow, name) for name in kommuna.airflow.__all__)
    return "# Operators\n\n`from kommuna.airflow import …` offers:\n\n" + "".join(map(_operator, offered))


def _operator(each: Any) -> str:
    name = f"::: {each.__module__}.{each.__name__}\n"
    if not hasattr(each, "step"):
        return f"{name}    options: {{members: false}}\n"
    lines = ["", "| argument | default | what |", "|---|---|---|"]
    for argument in arguments(each):
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in argument) + " |")
    lines += [
        "",
        "Besides, everything that `StepOperator` takes, except for `function`, `inputs` and `parameters`.",
        "",
        "",
    ]
    return f"{name}    options: {{members: false, show_docstring_parameters: false}}\n" + "\n".join(lines)


def arguments(operator: Any) -> Iterator[tuple[str, str, str]]:
    """Yields name, default and description of each argument of an operator over a shared step.

    A description is the operator's, or that of the step's argument, which the operator passes on.
    """
    module, _, name = code_of(operator.step).partition(":")
    described = _described(getattr(importlib.import_module(module), name)) | _described(operator)
    for argument in inspect.signature(operator).parameters.values():
        if argument.kind is not argument.VAR_KEYWORD:
            default = "" if argument.default is argument.empty else f"`{argument.default!r}`"
            yield f"`{argument.name}`", default, " ".join(described.get(argument.name, "").split())


def _described(what: Any) -> dict[str, str]:
    """The descriptions in the section `Args` of a docstring."""
    sections = Docstring(inspect.getdoc(what) or "").parse("google", warnings=False)
    return {
        each.name: each.description
        for section in sections
        if section.kind is DocstringSectionKind.parameters
        for each in section.value
    }


def commands() -> str:
    """The command's own help."""
    command = [sys.executable, "-m", "typer", "kommuna.cli.main", "utils", "docs", "--name", "kommuna"]
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout


def chart_values() -> str:
    """The chart's values, one a line, from their schema."""
    schema = json.loads((ROOT / "helm/kommuna/values.schema.json").read_text(encoding="utf-8"))
    lines = ["# Chart values", "", "| value | type | default | what |", "|---|---|---|---|"]
    for name, field in _fields(schema, schema, ""):
        default = json.dumps(field["default"], ensure_ascii=False) if "default" in field else ""
        cells = (f"`{name}`", _type(field, schema), f"`{default}`" if default else "", field.get("description", ""))
        lines.append("| " + " | ".join(" ".join(cell.replace("|", "\\|").split()) for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _fields(schema: dict[str, Any], node: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    node = _resolved(node, schema)
    for name, field in node.get("properties", {}).items():
        yield f"{path}{name}", {**_resolved(field, schema), **field}
        yield from _fields(schema, field, f"{path}{name}.")
    if isinstance(node.get("additionalProperties"), dict):
        yield from _fields(schema, node["additionalProperties"], f"{path}NAME.")


def _resolved(node: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """A node, or what it refers to; of several kinds the one that is not null."""
    if "anyOf" in node:
        node = next((each for each in node["anyOf"] if each.get("type") != "null"), node)
    if "$ref" in node:
        return _resolved(schema["$defs"][node["$ref"].rpartition("/")[2]], schema)
    return node


def _type(field: dict[str, Any], schema: dict[str, Any]) -> str:
    found = _resolved(field, schema)
    if "enum" in found:
        return "one of " + ", ".join(f"`{value}`" for value in found["enum"])
    return str(found.get("type", "any"))
