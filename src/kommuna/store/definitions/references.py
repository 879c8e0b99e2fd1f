"""Reads one statement of source: its text, and the names, attribute chains, strings and imports that it refers to."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

Chain = tuple[str, ...]
"""A name and the attributes looked up on it: `helpers.text.clean` is `("helpers", "text", "clean")`."""

Import = ast.Import | ast.ImportFrom
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_NOT_WRITTEN = ("ctx", "kind", "type_comment", "type_ignores")
_LEAVES = (ast.Name, ast.Constant, ast.Pass, ast.Global)
_fields: dict[type[ast.AST], tuple[str, ...]] = {}  # for each kind of node, the fields that count
_DOTTED = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)*")


@dataclass
class References:
    """The references of a statement. The lines of chains are for messages."""

    chains: dict[Chain, int] = field(default_factory=dict)
    values: set[Chain] = field(default_factory=set)
    """Chains that are used as values, so that their receiver may read their docstrings."""
    stored: set[Chain] = field(default_factory=set)
    """Chains that are assigned or deleted."""
    deleted: set[Chain] = field(default_factory=set)
    attributes: dict[str, int] = field(default_factory=dict)
    """Every attribute and keyword name, on any object."""
    value_attributes: set[str] = field(default_factory=set)
    strings: set[str] = field(default_factory=set)
    annotations: set[str] = field(default_factory=set)
    """Strings in annotations."""
    imports: list[Import] = field(default_factory=list)
    file_names: set[int] = field(default_factory=set)
    """Lines that use `__file__` only to find the folder."""

    def words(self) -> Iterator[Chain]:
        """Yields dotted names in strings: in annotations, and names that libraries read from the caller's frame."""
        for string in self.strings:
            if not string.isidentifier():
                yield from (tuple(word.split(".")) for word in _DOTTED.findall(string))
        for string in self.annotations:
            yield from (tuple(word.split(".")) for word in _DOTTED.findall(string))


def references(node: ast.stmt) -> References:
    """Returns the references of a top-level statement, without local variables of functions."""
    found = References()
    _Reader(found, _docstrings(node)).statement(node)
    return found


def text(node: ast.AST, *, docstrings: bool, kept: Iterable[str] = ()) -> str:
    """Returns a statement as text that does not depend on comments, layout and, if wanted, docstrings.

    Args:
        node: the statement.
        docstrings: whether the docstrings of the statement and of its methods are written.
        kept: methods whose docstrings are written all the same.
    """
    out: list[str] = []
    _write(node, out, frozenset() if docstrings else _docstrings(node, kept) - _told_to_libraries(node))
    return "".join(out)


def head(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> str | None:
    """Returns a definition as text without function bodies; None if the bodies may change a module's names."""
    owners: list[ast.AST] = [node, *(node.body if isinstance(node, ast.ClassDef) else ())]
    bodies = [inner for owner in owners if isinstance(owner, _FUNCTIONS) for inner in owner.body]
    if any(_is_of_modules(inner) for inner in descendants(bodies)):
        return None
    out: list[str] = []
    _write(node, out, frozenset(map(id, bodies)))
    return "".join(out)


def _is_of_modules(node: ast.AST) -> bool:
    stores = isinstance(node, ast.Attribute) and not isinstance(node.ctx, ast.Load)
    return stores or isinstance(node, (ast.Global, ast.Import, ast.ImportFrom))


def _told_to_libraries(node: ast.AST) -> frozenset[int]:
    """Returns the ids of docstrings that a base class or decorator may use, as pydantic does in a model's schema."""
    if not isinstance(node, ast.ClassDef) or not (node.bases or node.keywords or node.decorator_list):
        return frozenset()
    methods = [method for method in node.body if isinstance(method, _FUNCTIONS) and method.decorator_list]
    return frozenset(id(owner.body[0]) for owner in (node, *methods))


def bound_names(nodes: Iterable[ast.AST]) -> Iterator[tuple[str, ast.AST]]:
    """Yields each name that statements bind in their own scope, with the binding node."""
    for node in nodes:
        if isinstance(node, (*_FUNCTIONS, ast.Lambda)):
            if not isinstance(node, ast.Lambda):
                yield node.name, node
            yield from bound_names(evaluated(node))
        elif isinstance(node, ast.ClassDef):
            yield node.name, node
            yield from bound_names([*node.decorator_list, *node.bases, *node.keywords])
        elif isinstance(node, _COMPREHENSIONS):  # its targets are local, but not those of `:=`
            elements = [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]
            yield from bound_names([*elements, *(part for g in node.generators for part in (g.iter, *g.ifs))])
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            for alias in node.names:
                name = alias.asname or (alias.name if isinstance(node, ast.ImportFrom) else alias.name.split(".")[0])
                if name != "*":
                    yield name, node
        elif type(node).__name__ == "TypeAlias":  # Python 3.12
            yield node.name.id, node  # type: ignore[attr-defined]
        else:
            if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
                yield node.id, node
            elif isinstance(node, (ast.ExceptHandler, ast.MatchAs, ast.MatchStar)) and node.name:
                yield node.name, node
            elif isinstance(node, ast.MatchMapping) and node.rest:
                yield node.rest, node
            yield from bound_names(children(node))


def children(node: ast.AST) -> list[ast.AST]:
    """Yields the child nodes of a node, like `ast.iter_child_nodes` but without contexts and twice as fast."""
    kind = type(node)
    fields = _fields.get(kind)
    if fields is None:
        fields = _fields[kind] = tuple(name for name in kind._fields if name not in _NOT_WRITTEN)
    found: list[ast.AST] = []
    for name in fields:
        value = getattr(node, name, None)
        if isinstance(value, ast.AST):
            found.append(value)
        elif type(value) is list:
            found += [item for item in value if isinstance(item, ast.AST)]
    return found


def descendants(nodes: Iterable[ast.AST]) -> Iterator[ast.AST]:
    """Yields all nodes of some trees, in no particular order."""
    waiting = list(nodes)
    while waiting:
        node = waiting.pop()
        yield node
        if type(node) not in _LEAVES:
            waiting += children(node)


def evaluated(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> list[ast.expr]:
    """Returns the parts of a function that are evaluated at its definition: decorators, defaults, annotations."""
    found = [*node.args.defaults, *(default for default in node.args.kw_defaults if default is not None)]
    if not isinstance(node, ast.Lambda):
        found += [*node.decorator_list, *signature_annotations(node)]
    return found


def signature_annotations(node: ast.FunctionDef | ast.AsyncFunctionDef) -> list[ast.expr]:
    """Returns the annotations of a function's arguments and result."""
    every = [*(argument.annotation for argument in _arguments(node)), node.returns]
    return [annotation for annotation in every if annotation is not None]


def _arguments(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> list[ast.arg]:
    every = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    return every + [a for a in (node.args.vararg, node.args.kwarg) if a is not None]


def imports_run(node: ast.AST) -> Iterator[Import]:
    """Yields the import statements that a statement runs in its own scope."""
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        yield node
    elif not isinstance(node, (*_FUNCTIONS, ast.Lambda, ast.ClassDef)):
        for child in children(node):
            yield from imports_run(child)


class _Reader:
    """Walks a statement and collects its references."""

    def __init__(self, found: References, docstrings: frozenset[int]) -> None:
        self._found = found
        self._docstrings = docstrings
        self._own: list[frozenset[str]] = []  # local names of the enclosing functions
        self._class = ""  # the enclosing class, for private names
        self._global: frozenset[str] = frozenset()  # names that the outermost enclosing function declares global

    def statement(self, node: ast.AST, *, called: bool = False) -> None:
        if id(node) in self._docstrings:
            return
        if isinstance(node, (ast.Name, ast.Attribute)):
            self._chain(node, called=called)
        elif isinstance(node, ast.ClassDef):
            around, self._class = self._class, node.name.lstrip("_")
            self._all(children(node))
            self._class = around
        elif isinstance(node, ast.Call):
            if is_folder_of_file(node):
                self._found.file_names.add(node.lineno)
                self.statement(node.func, called=True)
                return
            self.statement(node.func, called=True)
            self._all([*node.args, *node.keywords])
        elif isinstance(node, (*_FUNCTIONS, ast.Lambda)):
            self._function(node)
        elif isinstance(node, _COMPREHENSIONS):
            self._comprehension(node)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            self._found.imports.append(node)
        elif isinstance(node, ast.AnnAssign):
            self._annotation(node.annotation)
            self._all([node.annotation, node.target, *([node.value] if node.value else [])])
        elif isinstance(node, ast.Constant):
            if isinstance(node.value, str):
                self._found.strings.add(node.value)
        elif isinstance(node, ast.Global):
            for name in node.names:
                self._found.chains.setdefault((name,), node.lineno)
                self._found.stored.add((name,))
        else:
            if isinstance(node, ast.keyword) and node.arg:
                self._found.attributes.setdefault(node.arg, node.lineno)
            elif isinstance(node, ast.MatchClass):
                self._found.attributes.update(dict.fromkeys(node.kwd_attrs, node.lineno))
            self._all(children(node))

    def _all(self, nodes: Iterable[ast.AST]) -> None:
        for node in nodes:
            self.statement(node)

    def _chain(self, node: ast.Name | ast.Attribute, *, called: bool) -> None:
        names: list[str] = []
        base: ast.expr = node
        while isinstance(base, ast.Attribute):
            names.append(self._mangled(base.attr))
            self._found.attributes.setdefault(base.attr, base.lineno)
            base = base.value
        if names and not called:
            self._found.value_attributes.add(names[0])
        if not isinstance(base, ast.Name):
            if names[-1] in ("parent", "parents", "with_name") and is_path_of_file(base):
                self._found.file_names.add(base.lineno)
                self._found.chains.setdefault(("Path",), base.lineno)
                return
            self.statement(base)
            return
        if any(base.id in own for own in self._own):
            return
        chain = (self._mangled(base.id), *reversed(names))
        self._found.chains.setdefault(chain, base.lineno)
        if not isinstance(node.ctx, ast.Load):
            self._found.stored.add(chain)
            if isinstance(node.ctx, ast.Del):
                self._found.deleted.add(chain)
        elif not called:
            self._found.values.add(chain)

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> None:
        body: list[ast.AST] = [node.body] if isinstance(node, ast.Lambda) else [*node.body]
        self._all(evaluated(node))
        if not isinstance(node, ast.Lambda):
            for annotation in signature_annotations(node):
                self._annotation(annotation)
            self._all(getattr(node, "type_params", []))
        outermost = not self._own
        if outermost:
            self._global = frozenset(n for g in ast.walk(node) if isinstance(g, ast.Global) for n in g.names)
        own = {argument.arg for argument in _arguments(node)}
        own |= {name for name, binding in bound_names(body) if not isinstance(binding, (ast.Import, ast.ImportFrom))}
        own -= {name for name, binding in bound_names(body) if isinstance(binding, (ast.Import, ast.ImportFrom))}
        self._own.append(frozenset(own) - self._global)
        self._all(body)
        self._own.pop()
        if outermost:
            self._global = frozenset()

    def _comprehension(self, node: ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp) -> None:
        self.statement(node.generators[0].iter)
        targets = [n.id for g in node.generators for n in ast.walk(g.target) if isinstance(n, ast.Name)]
        self._own.append(frozenset(targets))
        for index, generator in enumerate(node.generators):
            self._all([generator.target, *([generator.iter] if index else []), *generator.ifs])
        self._all([node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt])
        self._own.pop()

    def _mangled(self, name: str) -> str:
        private = self._class and name.startswith("__") and not name.endswith("__")
        return f"_{self._class}{name}" if private else name

    def _annotation(self, node: ast.expr) -> None:
        self._found.annotations.update(
            n.value for n in ast.walk(node) if isinstance(n, ast.Constant) and isinstance(n.value, str)
        )


def is_path_of_file(node: ast.expr) -> bool:
    """Whether an expression is `Path(__file__)`, possibly resolved."""
    if (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and not node.args
        and not node.keywords
        and node.func.attr in ("resolve", "absolute")
    ):
        node = node.func.value
    return _is_call_of(node, ("Path",)) and _is_file_name(node)


def is_folder_of_file(node: ast.Call) -> bool:
    """Whether a call is `os.path.dirname(__file__)`, possibly of the absolute path."""
    if not _is_call_of(node, ("dirname",)):
        return False
    inner = node.args[0]
    return _is_file_name(node) or (_is_call_of(inner, ("abspath", "realpath")) and _is_file_name(inner))


def _is_call_of(node: ast.expr, names: tuple[str, ...]) -> bool:
    if not isinstance(node, ast.Call) or len(node.args) != 1 or node.keywords:
        return False
    function = node.func
    if isinstance(function, ast.Attribute) and isinstance(function.value, (ast.Name, ast.Attribute)):
        return function.attr in names
    return isinstance(function, ast.Name) and function.id in names


def _is_file_name(node: ast.expr) -> bool:
    argument = node.args[0] if isinstance(node, ast.Call) else node
    return isinstance(argument, ast.Name) and argument.id == "__file__"


def _docstrings(node: ast.AST, kept: Iterable[str] = ()) -> frozenset[int]:
    """Returns the ids of the docstrings of a function, or of a class and its methods."""
    if not isinstance(node, (*_FUNCTIONS, ast.ClassDef)):
        return frozenset()
    owners: list[ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef] = [node]
    if isinstance(node, ast.ClassDef):
        owners += [n for n in node.body if isinstance(n, _FUNCTIONS) and n.name not in kept]
    firsts = [owner.body[0] for owner in owners]
    return frozenset(id(first) for first in firsts if is_string(first))


def is_string(node: ast.stmt) -> bool:
    """Whether a statement consists of a string, which is a docstring if it comes first."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _write(node: object, out: list[str], left_out: frozenset[int]) -> None:
    if isinstance(node, ast.AST):
        kind = type(node)
        out.append(f"{kind.__name__}(")
        if kind not in _fields:
            children(node)
        for name in _fields[kind]:
            _write(getattr(node, name, None), out, left_out)
            out.append(",")
        out.append(")")
    elif isinstance(node, list):
        out.append("[")
        for item in node:
            if id(item) not in left_out:
                _write(item, out, left_out)
                out.append(",")
        out.append("]")
    elif type(node) is int:
        out.append(hex(node))  # `repr` refuses very long ones
    else:
        out.append(repr(node))
