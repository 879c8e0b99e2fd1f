"""Lists of texts, where Python would take a text for the list of its letters."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kommuna.errors import SpecError


def text_list(name: str, value: Any) -> list[str]:
    """A parameter that is a list of texts; a set is sorted, so that the same set gives the same list.

    Args:
        name: the parameter's, for the message.
        value: as it was given.
    Raises:
        SpecError: it is one text, or holds something else than texts.

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
    """A parameter that is a list of texts, each once, such as the columns of a table: see `text_list`.

    Raises:
        SpecError: it is no such list, or a text stands in it twice.

    >>> distinct_texts("by", ["team", "day"])
    ['team', 'day']
    """
    items = text_list(name, value)
    for i, item in enumerate(items):
        if item in items[:i]:
            raise SpecError(f"`{name}` holds {item!r} twice", fix=f"name it once: {name}={[*dict.fromkeys(items)]!r}")
    return items
