"""Parses SQL into a tree of tokens, nested by parentheses, without comments."""

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
_OPERATORS = ("in", "like", "ilike", "rlike", "regexp")
_PREFIXES = ("not", "exists", "any", "all", "some")
_CLAUSES = (
    "and", "or", "is", "when", "then", "else", "end", "select", "from", "where", "group", "having", "qualify", "order",
    "limit", "offset", "on", "using", "join", "as", "union", "intersect", "except", "between", "in", "like", "ilike",
)  # fmt: skip


@dataclass(frozen=True)
class Node:
    """A token, or a group: everything between two parentheses.

    Attributes:
        kind: `text`, `name` (quoted), `number`, `word`, `mark` or `group`.
        text: the token as written; empty for a group.
        gap: whether white space comes before it.
        at: its offset in the statement.
        inner: the nodes of a group.
    """

    kind: str
    text: str
    gap: bool
    at: int
    inner: tuple[Node, ...] = ()

    def is_word(self, *words: str) -> bool:
        """Whether the node is one of some words, given in lower case."""
        return self.kind == "word" and self.text.lower() in words

    def is_mark(self, *marks: str) -> bool:
        """Whether the node is one of some marks."""
        return self.kind == "mark" and self.text in marks


def parse_nodes(sql: str) -> tuple[Node, ...] | None:
    """Returns the tokens of a statement, those in parentheses as groups; None if the parentheses do not match."""
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


def split(nodes: Sequence[Node], separates: Callable[[Node], bool]) -> list[Sequence[Node]]:
    """Splits nodes at the separators, which are left out."""
    parts: list[list[Node]] = [[]]
    for node in nodes:
        if separates(node):
            parts.append([])
        else:
            parts[-1].append(node)
    return list(parts)


def is_infix_not(nodes: Sequence[Node], at: int) -> bool:
    """Whether a node is the NOT of `x NOT IN (…)` or `x IS NOT NULL`, which belongs to the operand before it."""
    following = nodes[at + 1] if at + 1 < len(nodes) else None
    return (
        at > 0
        and nodes[at].is_word("not")
        and following is not None
        and (following.is_word(*_OPERATORS, "between") or (following.is_word("null") and nodes[at - 1].is_word("is")))
    )


def end_of_operand(nodes: Sequence[Node], at: int) -> int:
    """Returns the index after the operand that begins at a node: at AND, OR, IS, a comma, an alias or a clause.

    Args:
        nodes: the nodes of an expression or statement.
        at: the index of the operand's first node.
    """
    wanted, betweens = True, 0  # `wanted`: the next node must be a value, not an operator
    while at < len(nodes):
        node = nodes[at]
        if node.is_mark(",", ";"):
            break
        if wanted and node.is_word("case"):
            at, wanted = end_of_case(nodes, at), False
            continue
        if node.kind == "mark":
            wanted = not node.is_mark("]")
        elif wanted and not node.is_word(*_PREFIXES):
            if node.is_word(*_CLAUSES):
                break
            wanted = False
        elif node.is_word("between") or (betweens and node.is_word("and")):
            betweens += 1 if node.is_word("between") else -1
            wanted = True
        elif node.is_word(*_OPERATORS):
            wanted = True
        elif not (wanted or node.is_word("not") or _continues(nodes, at)):
            break
        at += 1
    return at


def _continues(nodes: Sequence[Node], at: int) -> bool:
    """Whether a node continues the value before it: arguments, a typed literal, OVER, the second word of a type."""
    node, before = nodes[at], nodes[at - 1]
    if node.kind == "group":
        return before.kind in ("word", "name")
    if node.kind == "text":
        return before.is_word("date", "time", "timestamp", "interval")
    return node.is_word("over", "filter", "within", "precision", "unsigned", "varying") or (
        node.is_word("group") and before.is_word("within")
    )


def end_of_case(nodes: Sequence[Node], at: int) -> int:
    """Returns the index after the CASE that begins at a node: after its END, or the end of the nodes.

    Args:
        nodes: the nodes of an expression or statement.
        at: the index of the CASE.
    """
    depth = 0
    while at < len(nodes):
        depth += nodes[at].is_word("case") - nodes[at].is_word("end")
        at += 1
        if not depth:
            break
    return at
