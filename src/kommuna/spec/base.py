"""`Spec`, the base class of everything that people write as data: frozen, without extra keys, with readable errors."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, ClassVar, Self

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from kommuna.errors import SpecError, nearest
from kommuna.spec.json_text import load_json
from kommuna.spec.plain import UNICODE
from kommuna.spec.words import in_unicode, in_words, place_of_problem, problems
from kommuna.spec.yaml_text import load_yaml


class Spec(BaseModel):
    """A frozen pydantic model that refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    refuse_yaml_traps: ClassVar[bool] = False  # whether its files may not hold text that YAML silently changes

    @classmethod
    def read(cls, data: Any, *, where: str = "") -> Self:
        """Validates plain data, or reads the file at a path.

        Args:
            data: plain data, or the path of a YAML or JSON file.
            where: the source of the data, for error messages.

        Raises:
            SpecError: the data does not fit the model. The message names each invalid key and the nearest known key.
        """
        if isinstance(data, str | Path):
            return cls.from_yaml(data)
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            raise spec_error(cls, error, where=where) from None
        except UnicodeEncodeError as error:
            raise SpecError(f"{cls.__name__}: {in_unicode(error)}", where=where, fix=UNICODE) from None

    @classmethod
    def from_yaml(cls, path: Path | str) -> Self:
        """Reads and validates a YAML file, or a JSON file with the suffix `.json`.

        Raises:
            SpecError: the file is missing, is not valid YAML or JSON, or does not fit the model.
        """
        path = Path(path)
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            raise SpecError(f"no file {path}", fix="check the path; it is relative to the bundle") from None
        except UnicodeDecodeError as error:
            raise SpecError(
                f"{path} is not UTF-8 text: {error.reason}", where=str(path), fix="save the file as UTF-8"
            ) from None
        except OSError as error:
            raise SpecError(f"{path} cannot be read: {error.strerror}", where=str(path), fix="name a file") from None
        is_json = path.suffix.lower() == ".json"
        data = load_json(text, path) if is_json else load_yaml(text, path, traps=cls.refuse_yaml_traps)
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            line = "" if is_json else f":{_line_of(error, text)}"
            raise spec_error(cls, error, where=f"{path}{line}") from None
        except UnicodeEncodeError as error:
            raise SpecError(f"{cls.__name__}: {in_unicode(error)}", where=str(path), fix=UNICODE) from None


def spec_error(model: type[BaseModel], error: ValidationError, *, where: str) -> SpecError:
    """Converts pydantic's list of problems to one readable error; the first problem comes first.

    Args:
        model: the class that was validated.
        error: pydantic's error.
        where: the file and line, or the place in words.
    """
    messages = []
    for item in _unknown_first(error):
        place = place_of_problem(item["loc"]) or "(top)"
        if item["type"] == "extra_forbidden":
            known = _fields_at(model, item["loc"][:-1])
            messages.append(f"unknown key '{item['loc'][-1]}' at {place}{nearest(str(item['loc'][-1]), known)}")
        else:
            messages.append(f"{place}: {in_words(item)}")
    rest = "; ".join(messages[1:4])
    return SpecError(f"{model.__name__}: {messages[0]}", where=where, fix=f"also: {rest}" if rest else "")


def _unknown_first(error: ValidationError) -> list[ErrorDetails]:
    """Returns the problems, unknown keys first: a misspelled key is often the reason why another key is missing."""
    return sorted(problems(error), key=lambda item: item["type"] != "extra_forbidden")


def _line_of(error: ValidationError, text: str) -> int:
    """Returns the line of the first problem: that of its key, or of the item that the message names."""
    first = _unknown_first(error)[0]
    named = re.search(r"'([^']+)'", first["msg"])
    if not first["loc"] and named:
        lines = [i for i, line in enumerate(text.splitlines(), 1) if re.search(rf"\b{re.escape(named[1])}\b", line)]
        return lines[-1] if "duplicate" in first["msg"] and lines else (lines or [1])[0]
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    line = 1
    for part in first["loc"]:
        if str(part).startswith("<"):  # a member of a union, which the file does not name
            continue
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
    """Returns the field names of the model at a location within another, as far as annotations show it."""
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
