"""The base of everything that people write as data: frozen, closed, and with readable errors."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Self

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from kommuna.errors import SpecError, nearest


class Spec(BaseModel):
    """A frozen pydantic model that refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @classmethod
    def read(cls, data: Any, *, where: str = "") -> Self:
        """Validates plain data, or reads the file at a path.

        Raises:
            SpecError: names each key that does not fit, with the nearest known key.
        """
        if isinstance(data, str | Path):
            return cls.from_yaml(data)
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            raise spec_error(cls, error, where=where) from None

    @classmethod
    def from_yaml(cls, path: Path | str) -> Self:
        """Reads and validates a YAML (or JSON) file.

        Raises:
            SpecError: the file is missing, is no YAML, or does not fit the model.
        """
        path = Path(path)
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            raise SpecError(f"no file {path}", mend="check the path; it is relative to the bundle") from None
        except UnicodeDecodeError as error:
            raise SpecError(
                f"{path} is not UTF-8 text: {error.reason}", where=str(path), mend="save the file as UTF-8"
            ) from None
        try:
            data = yaml.load(text, Loader=_UniqueKeys)
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            line = f":{mark.line + 1}" if mark else ""
            problem = getattr(error, "problem", None) or "cannot be read"
            raise SpecError(f"{path.name} is not valid YAML: {problem}", where=f"{path}{line}") from None
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            raise spec_error(cls, error, where=f"{path}:{_line_of(error, text)}") from None


class _UniqueKeys(yaml.SafeLoader):
    """Refuses a mapping that holds the same key twice, where YAML would silently keep the last."""


def _unique_mapping(loader: yaml.SafeLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[Any] = set()
    for key_node, _ in node.value:
        key = loader.construct_object(key_node, deep=True)
        if isinstance(key, str | int | float | bool) and key in seen:
            raise yaml.MarkedYAMLError(problem=f"the key '{key}' stands twice", problem_mark=key_node.start_mark)
        if isinstance(key, str | int | float | bool):
            seen.add(key)
    return loader.construct_mapping(node, deep=True)


_UniqueKeys.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _unique_mapping)


def spec_error(model: type[BaseModel], error: ValidationError, *, where: str) -> SpecError:
    """One readable error out of pydantic's list: the first problem leads, the rest follow."""
    problems = []
    for item in _unknown_first(error):
        place = ".".join(str(part) for part in item["loc"]) or "(top)"
        if item["type"] == "extra_forbidden":
            known = _fields_at(model, item["loc"][:-1])
            problems.append(f"unknown key '{item['loc'][-1]}' at {place}{nearest(str(item['loc'][-1]), known)}")
        else:
            message = item["msg"].removeprefix("Value error, ")
            problems.append(f"{place}: {message}")
    rest = "; ".join(problems[1:4])
    return SpecError(f"{model.__name__}: {problems[0]}", where=where, mend=f"also: {rest}" if rest else "")


def _unknown_first(error: ValidationError) -> list[ErrorDetails]:
    """The problems; unknown keys lead, since a misspelt one is why another is missing."""
    return sorted(error.errors(), key=lambda item: item["type"] != "extra_forbidden")


def _line_of(error: ValidationError, text: str) -> int:
    """The line that the first problem is about: that of its key, or of the item that its message names."""
    first = _unknown_first(error)[0]
    named = re.search(r"'([^']+)'", first["msg"])
    if not first["loc"] and named:
        lines = [i for i, line in enumerate(text.splitlines(), 1) if re.search(rf"\b{re.escape(named[1])}\b", line)]
        return lines[-1] if "twice" in first["msg"] and lines else (lines or [1])[0]
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    line = 1
    for part in first["loc"]:
        if isinstance(node, yaml.MappingNode):
            pairs = [(key, value) for key, value in node.value if str(key.value) == str(part)]
            if not pairs:
                break
            key, node = pairs[0]
            line = key.start_mark.line + 1
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
        else:
            break
    return line


def _fields_at(model: Any, loc: tuple[int | str, ...]) -> list[str]:
    """The field names of the model that stands at a place in another, as far as annotations tell."""
    from typing import get_args

    def models(annotation: Any) -> list[type[BaseModel]]:
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            return [annotation]
        return [found for argument in get_args(annotation) for found in models(argument)]

    here = [model]
    for part in loc:
        if isinstance(part, str):
            here = [m for h in here if part in h.model_fields for m in models(h.model_fields[part].annotation)] or here
    return [name for h in here for name in h.model_fields]
