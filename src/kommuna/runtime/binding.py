"""Reads a step's signature: which arguments are inputs, which are parameters, and which are clients."""

from __future__ import annotations

import importlib
import inspect
import sys
import traceback
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import PydanticUserError, TypeAdapter

from kommuna.errors import StepNotFound, nearest
from kommuna.runtime import bundle_imports
from kommuna.spec.step import Services, StepContext
from kommuna.spec.versions import STEPS, address_of, code_of
from kommuna.spec.words import as_type, shown

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


@dataclass(frozen=True)
class Argument:
    """One argument of a step."""

    name: str
    annotation: Any
    default: Any = inspect.Parameter.empty

    @property
    def required(self) -> bool:
        """Whether it has no default."""
        return self.default is inspect.Parameter.empty


@dataclass(frozen=True)
class Signature:
    """A step's function and its arguments by kind."""

    name: str
    function: Callable[..., Any]
    inputs: dict[str, Argument]
    params: dict[str, Argument]
    injected: dict[str, Any]

    def check_names(self, inputs: Mapping[str, Any], params: Mapping[str, Any]) -> None:
        """Checks that all inputs and parameters are known, and that no required one is missing.

        Raises:
            StepNotFound: an input or parameter is unknown or missing. The message names the nearest known one.
        """
        for what, given, known in (("input", inputs, self.inputs), ("parameter", params, self.params)):
            for name in given:
                if name not in known:
                    raise StepNotFound(
                        f"unknown {what} '{name}' of step {self.name}{nearest(name, known)}",
                        fix=f"its {what}s are: {', '.join(known) or 'none'}",
                    )
            for name, argument in known.items():
                if argument.required and given.get(name) is None and name not in given:
                    raise StepNotFound(
                        f"step {self.name} needs the {what} '{name}'", fix=f"its {what}s are: {', '.join(known)}"
                    )

    def check_params(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Converts parameters to their annotated types, and adds the defaults of those that are missing.

        Raises:
            SpecError: a value does not fit its type. The message names the parameter, the value and the reason.
        """
        given = {name: _coerce(self.name, self.params[name], value) for name, value in params.items()}
        left_out = [argument for name, argument in self.params.items() if name not in params and not argument.required]
        every = {**given, **{argument.name: _default(argument) for argument in left_out}}
        return {name: _in_one_order(value) for name, value in every.items()}

    def inject(self, services: Services, context: StepContext) -> dict[str, Any]:
        """Creates the clients and the context that the step declares by type."""
        return {
            name: context if wanted is StepContext else wanted.from_services(services)
            for name, wanted in self.injected.items()
        }


def find_step(name: str, *, bundle: Path | None = None) -> Signature:
    """Imports a step by `module:function`.

    Args:
        name: the step's address or `module:function`.
        bundle: the team's folder, searched first for its own steps.

    Raises:
        StepNotFound: no such module or function, a function of the platform that is not a step, or a signature that
            a step cannot have.
    """
    if not isinstance(name, str):
        raise StepNotFound(f"{shown(name)} does not name a step", fix="a step is named 'module:function'")
    if _is_platform_code(name.partition(":")[0]):
        raise _not_a_step(name)
    if name.startswith("kommuna.steps:") and name not in STEPS:
        raise StepNotFound(
            f"there is no shared step '{name}'{nearest(name, STEPS)}", fix="`kommuna steps` lists the shared steps"
        )
    address = address_of(name)
    function = find_function(code_of(address), bundle=bundle)
    if _is_platform_code(function.__module__):  # imported into a module of steps
        raise _not_a_step(name)
    return read_signature(address, function)


def _is_platform_code(module: str) -> bool:
    return module.partition(".")[0] == "kommuna" and module.split(".")[1:2] != ["steps"]


def _not_a_step(name: str) -> StepNotFound:
    return StepNotFound(
        f"'{name}' is the platform's own code, not a step",
        fix="the shared steps are below kommuna.steps; a team's own are in its bundle",
    )


def find_function(name: str, *, bundle: Path | None = None) -> Callable[..., Any]:
    """Imports a function by `module:function`.

    Args:
        name: `module:function`.
        bundle: the team's folder, searched first.

    Raises:
        StepNotFound: no such module or function. The message names the nearest one.
    """
    module_name, _, function_name = name.partition(":")
    if not all(part.isidentifier() for part in (*module_name.split("."), function_name)):
        raise StepNotFound(f"'{name}' does not name a step", fix="a step is named 'module:function'")
    if bundle is not None and str(bundle) not in sys.path:
        sys.path.insert(0, str(bundle))
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and not (module_name == error.name or module_name.startswith(f"{error.name}.")):
            raise StepNotFound(
                f"step {name} imports '{error.name}', which is not installed",
                fix="add it to the image, or drop the import",
            ) from None
        raise StepNotFound(
            f"no module '{module_name}'{nearest(module_name, _siblings(module_name))}",
            where=str(bundle or ""),
            fix="a step is named 'module:function'",
        ) from None
    except Exception as error:
        place = [at for at in traceback.extract_tb(error.__traceback__) if at.filename != bundle_imports.__file__][-1]
        raise StepNotFound(
            f"the import of module '{module_name}' fails: {type(error).__name__}: {error}",
            where=f"{place.filename}:{place.lineno}",
            fix="fix the module",
        ) from error
    function = getattr(module, function_name, None)
    if not inspect.isfunction(function):
        functions = [
            key
            for key, value in vars(module).items()
            if inspect.isfunction(value)
            and not key.startswith("_")
            and value.__module__.partition(".")[0] not in sys.stdlib_module_names
        ]
        raise StepNotFound(
            f"module '{module_name}' has no step '{function_name}'{nearest(function_name, functions)}",
            fix=f"it has: {', '.join(functions) or 'no function'}",
        )
    return function


def read_signature(name: str, function: Callable[..., Any]) -> Signature:
    """Reads the signature of a step: positional arguments are inputs, keyword-only arguments are parameters."""
    try:
        hints = typing.get_type_hints(function, include_extras=True)
    except Exception as error:
        raise StepNotFound(
            f"the annotations of step {name} cannot be read: {error}", fix="import their types"
        ) from None
    inputs: dict[str, Argument] = {}
    params: dict[str, Argument] = {}
    injected: dict[str, Any] = {}
    for parameter in inspect.signature(function).parameters.values():
        if parameter.name not in hints:
            raise StepNotFound(f"argument '{parameter.name}' of step {name} has no annotation", fix="annotate it")
        annotation = hints[parameter.name]
        argument = Argument(parameter.name, annotation, parameter.default)
        if annotation is StepContext or (isinstance(annotation, type) and hasattr(annotation, "from_services")):
            injected[parameter.name] = annotation
        elif parameter.kind in _POSITIONAL:
            inputs[parameter.name] = argument
        elif parameter.kind is inspect.Parameter.KEYWORD_ONLY:
            params[parameter.name] = argument
        else:
            raise StepNotFound(
                f"argument '*{parameter.name}' of step {name} is neither an input nor a parameter",
                fix="use a dict input for tables by name",
            )
    return Signature(name, function, inputs, params, injected)


def _coerce(step: str, argument: Argument, value: Any) -> Any:
    try:
        return as_type(argument.annotation, value, argument.name, of=f" of step {step}")
    except PydanticUserError as error:
        raise StepNotFound(
            f"parameter '{argument.name}' of step {step} has an unsupported type: {error.message}"
        ) from None


def _default(argument: Argument) -> Any:
    """Coerces a default to its type, so that it equals the same value passed explicitly; else returns it unchanged."""
    try:
        return TypeAdapter(argument.annotation).validate_python(argument.default)
    except (PydanticUserError, ValueError, TypeError):
        return argument.default


def _in_one_order(value: Any) -> Any:
    """Rebuilds the sets of a value, so that their iteration order does not depend on how they were written."""
    kind = type(value)
    if kind is dict:
        return {_in_one_order(key): _in_one_order(item) for key, item in value.items()}
    if kind in (list, tuple):
        return kind(map(_in_one_order, value))
    if kind in (set, frozenset):
        return kind(sorted(map(_in_one_order, value), key=lambda item: (type(item).__name__, repr(item))))
    return value


def _siblings(module_name: str) -> list[str]:
    """Modules beside the one that was asked for, to name the nearest."""
    import pkgutil

    package_name, _, _ = module_name.rpartition(".")
    if not package_name:
        return [info.name for info in pkgutil.iter_modules()]
    try:
        package = importlib.import_module(package_name)
    except ImportError:
        return []
    return [f"{package_name}.{info.name}" for info in pkgutil.iter_modules(getattr(package, "__path__", []))]
