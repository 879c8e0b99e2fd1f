"""Validates parameters that are lists of texts. Python would otherwise iterate over the letters of a single text."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kommuna.errors import SpecError


def text_list(name: str, value: Any) -> list[str]:
    """Validates a parameter that is a list of texts. A set is sorted, so that equal sets give equal lists.

    Args:
        name: the parameter's name, for error messages.
        value: any value.

    Raises:
        SpecError: the value is a single text, or an item is not a text.

    >>> text_list("names", ("Иван", "Ольга"))
    ['Иван', 'Ольга']
    """
    if isinstance(value, str):
        raise SpecError(f"`{name}` is a list of texts; got the text {value!r}", fix=f"write {name}=[{value!r}]")
    if not isinstance(value, Iterable):
        raise SpecError(f"`{name}` is a list of texts; got {value!r}", fix=f'write {name}=["…"]')
    items = list(value)
    for item in items:
        if not isinstance(item, str):
            raise SpecError(f"`{name}` is a list of texts; it holds {item!r}, a {type(item).__name__}")
    return sorted(items) if isinstance(value, set | frozenset) else items


def distinct_texts(name: str, value: Any) -> list[str]:
    """Validates a parameter that is a list of distinct texts, such as the columns of a table: see `text_list`.

    Args:
        name: the parameter's name, for error messages.
        value: any value.

    Raises:
        SpecError: the value is not a list of texts, or a text is a duplicate.

    >>> distinct_texts("by", ["team", "day"])
    ['team', 'day']
    """
    items = text_list(name, value)
    for i, item in enumerate(items):
        if item in items[:i]:
            raise SpecError(f"`{name}` holds {item!r} twice", fix=f"name it once: {name}={[*dict.fromkeys(items)]!r}")
    return items
