"""Renders a step's templates to the value of their expression.

Airflow renders to text, or (`render_template_as_native_obj`) guesses the type from the text, so a column named "0"
becomes a number. A step declares the type of each parameter, so nothing is guessed here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import jinja2
from airflow.sdk.definitions._internal.templater import NativeEnvironment

from kommuna.errors import SpecError, nearest
from kommuna.store.parameters import cast_rendered

# Set from a run's logical date, which a run started by an asset lacks, and one started by the API may lack.
DATE_VARIABLES = (
    "ds", "ds_nodash", "ts", "ts_nodash", "ts_nodash_with_tz", "logical_date", "data_interval_start",
    "data_interval_end",
)  # fmt: skip
SEE_REFERENCE = "see Airflow's templates reference for the variables of a run"


class StepEnvironment(NativeEnvironment):
    """The Jinja environment of a step's `inputs` and `parameters`, whose templates render to values."""


def step_environment(environment: jinja2.Environment) -> StepEnvironment:
    """Copies a DAG's environment (macros, filters, search path) to one whose templates render to values."""
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
    """Evaluates a template. A single expression gives its value (`{{ params.names }}` is a list), anything else a text.

    Raises:
        jinja2.UndefinedError: the template uses an undefined name.
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
    """Describes which name of a template the run does not have, and how to fix it."""
    what = str(error.message)
    named = re.search(r"attribute '([^']+)'$", what)
    name = named[1] if named else what.partition("'")[2].partition("'")[0]
    if name in DATE_VARIABLES and not named:
        return SpecError(
            f"a template names '{name}', and this run has no logical date",
            fix="start it with one (`kommuna trigger --date 2026-09-01`, the form's «Logical date»), or use a param",
        )
    params = list(context.get("params") or ())
    if named and name not in params:
        known = f"the params are: {', '.join(params) or 'none'}"
        return SpecError(f"a template names '{name}', which is not defined{nearest(name, params)}", fix=known)
    return SpecError(f"a template cannot be rendered: {what}", fix=SEE_REFERENCE)


def cast(given: Any, rendered: Any, types: Mapping[str, Any]) -> Any:
    """Casts the parameters that contained a template to the types that the step declares.

    Args:
        given: the parameters in the DAG file, or an XCom reference to all of them.
        rendered: the rendered parameters.
        types: the known types by parameter.
    """
    if not isinstance(rendered, Mapping):
        return rendered  # another task returned something else; the step's spec refuses it
    all_rendered = not isinstance(given, Mapping)
    return {
        name: cast_rendered(value, types.get(name)) if all_rendered or is_templated(given[name]) else value
        for name, value in rendered.items()
    }


def is_templated(value: Any) -> bool:
    """Whether a value contains a template or another task's output."""
    if isinstance(value, str):
        return "{{" in value or "{%" in value
    if isinstance(value, Mapping):
        return any(is_templated(item) for item in value.values())
    if isinstance(value, list | tuple | set):
        return any(is_templated(item) for item in value)
    return hasattr(value, "iter_references")  # an XComArg
