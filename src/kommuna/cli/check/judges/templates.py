"""Checks templates: names that no run has, params that the DAG lacks, invalid syntax."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import jinja2
from jinja2 import meta, nodes

from kommuna.airflow.operators.rendering import DATE_VARIABLES, SEE_REFERENCE
from kommuna.errors import nearest

_BESIDE_THE_CONTEXT = ("macros", "var", "conn", "params", "expanded_ti_count", "reason", "exception", "try_number")


def template_mistakes(task: Any) -> Iterator[tuple[str, str]]:
    """Yields the message and the fix of each mistake in a task's templates, without duplicates.

    Args:
        task: an operator of a DAG file. For a mapped task only the arguments of `partial` are checked.
    """
    known = _known(task)
    environment = task.dag.get_template_env()
    fields = ((name, _field(task, name)) for name in task.template_fields)
    seen: set[tuple[str, str]] = set()
    for name, text in ((name, text) for name, value in fields for text in _texts(value)):
        if "{{" not in text and "{%" not in text:
            continue
        for found in _of_one(environment, text, name, known, task):
            if found not in seen:
                seen.add(found)
                yield found


def _of_one(
    environment: jinja2.Environment, text: str, field: str, known: set[str], task: Any
) -> Iterator[tuple[str, str]]:
    try:
        tree = environment.parse(text)
    except jinja2.TemplateSyntaxError as error:
        yield f"the template in '{field}' cannot be parsed: {error.message}", "write {{ … }} around one expression"
        return
    for name in sorted(meta.find_undeclared_variables(tree) - known):
        yield (
            f"'{{{{ {name} }}}}' in '{field}' is not known to a run{nearest(name, known)}",
            SEE_REFERENCE,
        )
    for name in _params(tree):
        if name not in task.dag.params and name not in _own_params(task):
            hint = nearest(name, task.dag.params)
            yield (
                f"'{{{{ params.{name} }}}}' in '{field}': the DAG has no param '{name}'{hint}",
                f"its params are: {', '.join(task.dag.params) or 'none'}",
            )
    dates = [name for name in DATE_VARIABLES if name in meta.find_undeclared_variables(tree)]
    if dates and _runs_on_assets_only(task.dag):
        yield (
            f"'{{{{ {dates[0]} }}}}' in '{field}': a run that an asset starts has no logical date",
            "use {{ run_id }}, {{ dag_run.run_after }} or a param",
        )


def _params(tree: nodes.Template) -> Iterator[str]:
    """Yields the params that a template names without a default: `params.day`, `params["day"]`."""
    found: list[nodes.Getattr | nodes.Getitem] = [*tree.find_all(nodes.Getattr), *tree.find_all(nodes.Getitem)]
    for node in found:
        if not isinstance(node.node, nodes.Name) or node.node.name != "params" or _has_default(tree, node):
            continue
        if isinstance(node, nodes.Getattr) and node.attr not in ("get", "items", "keys", "values"):
            yield node.attr
        elif isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Const):
            yield str(node.arg.value)


def _has_default(tree: nodes.Template, node: nodes.Node) -> bool:
    filters = (f for f in tree.find_all(nodes.Filter) if f.name in ("default", "d"))
    tests = (t for t in tree.find_all(nodes.Test) if t.name in ("defined", "undefined"))
    return any(one.node == node for one in (*filters, *tests))


def _known(task: Any) -> set[str]:
    """Returns the names that a run defines: Airflow's context, the DAG's macros, and Jinja's globals."""
    from airflow.sdk.definitions.context import Context

    context = set(Context.__annotations__)
    own = set(task.dag.user_defined_macros or ()) | set(getattr(task, "op_kwargs", None) or ())
    return context | own | {*_BESIDE_THE_CONTEXT, *task.dag.get_template_env().globals}


def _own_params(task: Any) -> Mapping[str, Any]:
    params = getattr(task, "params", None)
    return params if isinstance(params, Mapping) else {}


def _runs_on_assets_only(dag: Any) -> bool:
    return type(dag.timetable).__name__ == "AssetTriggeredTimetable"


def _field(task: Any, name: str) -> Any:
    options = getattr(task, "partial_kwargs", None)
    return getattr(task, name, None) if options is None else options.get(name)


def _texts(value: Any, depth: int = 0) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif depth < 20 and isinstance(value, Mapping):
        for item in value.values():
            yield from _texts(item, depth + 1)
    elif depth < 20 and isinstance(value, list | tuple | set):
        for item in value:
            yield from _texts(item, depth + 1)
