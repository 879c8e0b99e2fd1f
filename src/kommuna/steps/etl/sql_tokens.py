"""SQL as a tree of tokens, parentheses within parentheses; comments are left out."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

_TOKEN = re.compile(
    r"""(?P<gap>\s+|--[^\n]*)
    |(?P<text>'(?:[^']|'')*')
    |(?P<name>"(?:[^"]|"")*"|`[^`]*`)
    |(?P<number>(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)
    |(?P<word>[^\W\d]\w*)
    |(?P<mark>/\*|::|//|\|\||<=>|<>|<=|>=|!=|==|->>?|.)""",
    re.VERBOSE | re.DOTALL,
)
_NESTED = re.compile(r"/\*|\*/")


@dataclass(frozen=True)
class Node:
    """A token, or what stands between two parentheses.

    Attributes:
        kind: `text`, `name`, `number`, `word`, `mark` or `group`.
        text: of the token.
        gap: whether white space stands before it.
        at: its place in the statement.
        inner: a group's nodes.
    """

    kind: str
    text: str
    gap: bool
    at: int
    inner: tuple[Node, ...] = ()

    def is_word(self, *words: str) -> bool:
        """Whether it is one of some words, given in lower case."""
        return self.kind == "word" and self.text.lower() in words

    def is_mark(self, *marks: str) -> bool:
        """Whether it is one of some marks."""
        return self.kind == "mark" and self.text in marks


def nodes_of(sql: str) -> tuple[Node, ...] | None:
    """The statement's tokens, those within parentheses in groups; None where parentheses do not match."""
    levels: list[tuple[Node | None, list[Node]]] = [(None, [])]
    at, gap = 0, False
    while at < len(sql):
        found = _TOKEN.match(sql, at)
        assert found is not None  # the last alternative is any character
        kind, text = found.lastgroup or "mark", found.group()
        start, at = at, found.end()
        if text == "/*":
            depth = 1
            while depth and (mark := _NESTED.search(sql, at)):
                depth, at = depth + (1 if mark.group() == "/*" else -1), mark.end()
            at = at if not depth else len(sql)
            kind = "gap"
        if kind == "gap":
            gap = True
            continue
        node = Node(kind, text, gap, start)
        gap = False
        if node.is_mark("("):
            levels.append((node, []))
        elif node.is_mark(")"):
            opening, inner = levels.pop()
            if opening is None:
                return None
            levels[-1][1].append(Node("group", "", opening.gap, opening.at, tuple(inner)))
        else:
            levels[-1][1].append(node)
    return tuple(levels[0][1]) if len(levels) == 1 else None


def split(nodes: Sequence[Node], apart: Callable[[Node], bool]) -> list[Sequence[Node]]:
    """The nodes between those that part them."""
    parts: list[list[Node]] = [[]]
    for node in nodes:
        if apart(node):
            parts.append([])
        else:
            parts[-1].append(node)
    return list(parts)
