"""Reads YAML, and rejects text that YAML would silently read as something else; errors name the line."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from kommuna.errors import SpecError
from kommuna.spec.plain import not_plain

_QUOTES = "put the text in single quotes: there a backslash is a backslash"
_ESCAPES = {  # escapes in double quotes that mean something else in a regular expression
    "a": "a bell", "b": "a backspace, not a word's edge", "e": "an escape", "f": "a form feed", "v": "a vertical tab",
    "0": "the character 0", "N": "a line break", "L": "a line break", "P": "a line break", "_": "a no-break space",
}  # fmt: skip
_SHOWN = 60  # characters of a value
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_COMMENT = re.compile(r"[ \t]+(#[^\s#][^\n]*)")
_BREAKS = re.compile("[\x85\u2028\u2029]")
_MERGE = "tag:yaml.org,2002:merge"


def load_yaml(text: str, path: Path, *, traps: bool = False) -> Any:
    r"""Parses YAML.

    Args:
        text: the file's content.
        path: the file's path, for error messages.
        traps: whether to reject a text that is cut off by a comment (`договор #5`), and an escape in double quotes that
            means something else in a regular expression (`"\bкарта"`).

    Raises:
        SpecError: the text is not valid YAML, has a duplicate key, is nested too deeply, or holds an invisible line
            break. The message names the line.
    """
    if found := _BREAKS.search(text):
        raise _odd_character(text, found.start(), path, "which YAML reads as a line break")
    try:
        if traps:
            _refuse_traps(text, path)
        return yaml.load(text, Loader=_UniqueKeys)
    except yaml.reader.ReaderError as error:
        raise _odd_character(text, error.position, path, "which YAML does not allow") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "cannot be read"
        fix = _QUOTES if "unknown escape" in problem else ""
        raise SpecError(f"{path.name} is not valid YAML: {problem}", where=f"{path}{line}", fix=fix) from None
    except RecursionError:
        raise SpecError(
            f"{path.name} is nested too deeply", where=str(path), fix="close the brackets, or write it flat"
        ) from None


def _odd_character(text: str, at: int, path: Path, why: str) -> SpecError:
    code = f"U+{ord(text[at]):04X}"
    return SpecError(
        f"{path.name} holds the character {code}, {why}",
        where=f"{path}:{text.count(chr(10), 0, at) + 1}",
        fix=f'remove it; where it is meant, write "\\u{ord(text[at]):04X}" in double quotes',
    )


def _refuse_traps(text: str, path: Path) -> None:
    for token in yaml.scan(text, Loader=yaml.SafeLoader):
        if not isinstance(token, yaml.ScalarToken):
            continue
        where = f"{path}:{token.start_mark.line + 1}"
        start, end = token.start_mark.index, token.end_mark.index
        if token.plain and (comment := _COMMENT.match(text, end)):
            raise SpecError(
                f"'{token.value}{comment.group().rstrip()}' is read as '{token.value}': the rest is a comment",
                where=where,
                fix="put the text in quotes; for a comment leave a space after the #",
            )
        if token.style == '"':
            for escape in _ESCAPE.finditer(text, start, end):
                if escape.group(1) in _ESCAPES:
                    what = f"in double quotes {escape.group()} is {_ESCAPES[escape.group(1)]}"
                    raise SpecError(what, where=f"{where}: {text[start:end]}", fix=_QUOTES)


class _UniqueKeys(yaml.SafeLoader):
    """Rejects duplicate keys, of which YAML would silently keep the last.

    A scalar that is invalid for its type, such as the date 2026-02-30, becomes a YAML error with its line.
    """

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep=deep)
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
            kind, text = str(node.tag).rpartition(":")[2], str(node.value)
            shown = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
            problem = f"'{shown}' is read as a value of type {kind}, but is not valid ({error}): put it in quotes"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark) from None

    def construct_scalar(self, node: Any) -> Any:
        text = super().construct_scalar(node)
        if isinstance(text, str) and not_plain(text, ""):  # surrogate pairs, as JSON writes them: "\\ud83d\\ude00"
            try:
                return text.encode("utf-16", "surrogatepass").decode("utf-16")
            except UnicodeDecodeError:
                problem = f"{text[:_SHOWN]!a} holds half of a character"
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark) from None
        return text


def _unique_mapping(loader: yaml.SafeLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[Any] = set()
    for key_node, _ in node.value:
        if key_node.tag == _MERGE:
            continue
        key = loader.construct_object(key_node, deep=True)
        if isinstance(key, str | int | float | bool):
            if key in seen:
                raise yaml.MarkedYAMLError(problem=f"duplicate key '{key}'", problem_mark=key_node.start_mark)
            seen.add(key)
    loader.flatten_mapping(node)
    return loader.construct_mapping(node, deep=True)


_UniqueKeys.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _unique_mapping)
