"""How a step's templates are rendered: to the value of their expression, and never to what a text happens to look like.

Airflow renders to text, or (`render_template_as_native_obj`) guesses types from the text: a column called "0" becomes
a number. A step says of each parameter what it is, so nothing is guessed here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import jinja2
from airflow.sdk.definitions._internal.templater import NativeEnvironment

from kommuna.errors import SpecError, nearest
from kommuna.store.parameters import cast_rendered

# What a run's logical date makes; a run that an asset starts has none, and one that the API starts may have none.
OF_A_DATE = (
    "ds", "ds_nodash", "ts", "ts_nodash", "ts_nodash_with_tz", "logical_date", "data_interval_start",
    "data_interval_end",
)  # fmt: skip
AS_OTHERS = "Airflow's templates reference lists what a run has"


class StepEnvironment(NativeEnvironment):
    """The environment of a step's `inputs` and `parameters`: its templates give values."""


def step_environment(environment: jinja2.Environment) -> StepEnvironment:
    """A DAG's environment (macros, filters, search path) whose templates give values instead of text."""
    made = StepEnvironment(  # type: ignore[no-untyped-call]
        undefined=environment.undefined,
        loader=environment.loader,
        extensions=list(environment.extensions),
        cache_size=0,
    )
    for name in ("globals", "filters", "tests"):
        getattr(made, name).update(getattr(environment, name))
    return made


def evaluate(template: jinja2.Template, context: Mapping[str, Any]) -> Any:
    """A template's value: of the one expression that it is (`{{ params.names }}` is a list), else its text.

    Raises:
        jinja2.UndefinedError: it names what is not there.
    """
    environment = template.environment
    known = {**template.globals, **context}
    try:
        parts = list(
            template.root_render_func(environment.context_class(environment, known, template.name, template.blocks))
        )
    except Exception:
        environment.handle_exception()
    if len(parts) == 1 and not isinstance(parts[0], jinja2.Undefined):
        return parts[0]
    return "".join(str(part) for part in parts)


def explain_undefined(error: jinja2.UndefinedError, context: Mapping[str, Any]) -> SpecError:
    """What a template names that the run does not have, and what to do."""
    what = str(error.message)
    named = re.search(r"attribute '([^']+)'$", what)
    name = named[1] if named else what.partition("'")[2].partition("'")[0]
    if name in OF_A_DATE and not named:
        return SpecError(
            f"a template names '{name}', and this run has no logical date",
            fix="start it with one (`kommuna trigger --date 2026-09-01`, the form's «Logical date»), or use a param",
        )
    params = list(context.get("params") or ())
    if named and name not in params:
        there = f"the params are: {', '.join(params) or 'none'}"
        return SpecError(f"a template names '{name}', which is not there{nearest(name, params)}", fix=there)
    return SpecError(f"a template cannot be rendered: {what}", fix=AS_OTHERS)


def cast(given: Any, rendered: Any, types: Mapping[str, Any]) -> Any:
    """Parameters, of which those that hold a template are cast to the type that the step declares.

    Args:
        given: as the DAG file has them, or an XCom's reference to all of them.
        rendered: the same, rendered.
        types: by parameter, of those that are known.
    """
    if not isinstance(rendered, Mapping):
        return rendered  # another task gave it for all of them; the step's spec refuses it by name
    all_rendered = not isinstance(given, Mapping)
    return {
        name: cast_rendered(value, types.get(name)) if all_rendered or is_templated(given[name]) else value
        for name, value in rendered.items()
    }


def is_templated(value: Any) -> bool:
    """Whether a value holds a template, or another task's value, somewhere in it."""
    if isinstance(value, str):
        return "{{" in value or "{%" in value
    if isinstance(value, Mapping):
        return any(is_templated(item) for item in value.values())
    if isinstance(value, list | tuple | set):
        return any(is_templated(item) for item in value)
    return hasattr(value, "iter_references")  # an XCom's
