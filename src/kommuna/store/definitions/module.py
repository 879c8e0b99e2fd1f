"""A loaded module of the bundle: the bindings of its names, and what is certain about them."""

from __future__ import annotations

import ast
import builtins
import collections
from dataclasses import dataclass, field

from kommuna.store.definitions.files import BundleFiles

_BUILTINS = frozenset(dir(builtins))


@dataclass(frozen=True)
class Binding:
    """One place that binds a module's name.

    `source` is `("here",)`, `("module", name)` or `("attribute", module, name)`; `position` the number of acting
    statements that run before it.
    """

    statement: int
    source: tuple[str, ...]
    position: int


@dataclass
class Module:
    """A loaded module of the bundle; also the `Scope` of the current statement."""

    name: str
    path: str
    statements: list[ast.stmt]
    files: BundleFiles
    modules: dict[str, Module]
    patched: set[str]  # attributes that some module assigns on another
    uncertain: bool  # may be loaded earlier, later or never
    loading: bool = True
    position: int = 0  # as of a `Binding`: when it becomes an attribute of its package
    eager_annotations: bool = True
    bindings: dict[str, list[Binding]] = field(default_factory=lambda: collections.defaultdict(list))
    binders: dict[str, list[ast.AST]] = field(default_factory=lambda: collections.defaultdict(list))
    changed: set[str] = field(default_factory=set)  # deleted, declared global in a function, or bound by a star too
    sure: set[str] = field(default_factory=set)
    classes: dict[str, ast.ClassDef] = field(default_factory=dict)
    star_library: bool = False
    replaced: set[str] = field(default_factory=set)
    """Submodules whose name the package rebinds, right after loading them, to one of their attributes."""

    @property
    def is_package(self) -> bool:
        """Whether the module is a package."""
        return self.path.endswith(("/", "/__init__.py"))

    def absolute(self, node: ast.ImportFrom) -> str:
        """Returns the module that a `from` import names; "" if it is above the top-level package."""
        if not node.level:
            return node.module or ""
        parts = self.name.split(".") if self.is_package else self.name.split(".")[:-1]
        parts = parts[: len(parts) - node.level + 1] if node.level <= len(parts) else []
        return ".".join([*parts, *([node.module] if node.module else [])]) if parts else ""

    def is_rebound(self, name: str) -> bool:
        """Whether more than one statement binds a name, so that their order matters."""
        binders = self.binders.get(name, [])
        plain = all(isinstance(b, ast.Import) and all(a.asname != name for a in b.names) for b in binders)
        return name in self.changed or (len(binders) > 1 and not plain)

    def is_bound(self, name: str) -> bool:
        """Whether a name is certainly bound, and only by one statement."""
        return name in self.sure and not self.is_rebound(name) and name not in self.patched

    def is_builtin(self, name: str) -> bool:
        """Whether a name refers to Python's builtin."""
        submodule = self.is_package and self.files.find(f"{self.name}.{name}") is not None
        known = name in self.binders or name in self.bindings or self.star_library or submodule
        return name in _BUILTINS and not known

    def origin(self, node: ast.expr) -> str:
        """Returns the dotted library name or builtin that an expression refers to; "" where it is uncertain."""
        names: list[str] = []
        while isinstance(node, ast.Attribute):
            names.append(node.attr)
            node = node.value
        if not isinstance(node, ast.Name):
            return ""
        if self.is_builtin(node.id):
            return "" if names else node.id
        if not self.is_bound(node.id):
            return ""
        source = self.bindings[node.id][-1].source
        dotted = ".".join([*source[1:], *reversed(names)])
        library = source[0] != "here" and self.files.find(dotted.partition(".")[0]) is None
        return dotted if library and self.files.is_known_library(dotted) else ""

    def is_class(self, node: ast.expr) -> bool:
        """Whether an expression refers to a class of the bundle."""
        return self._class(node) is not None

    def is_plain_class(self, node: ast.expr) -> bool:
        """Whether an expression refers to a class without decorators whose first base is builtin or also plain."""
        found = self._class(node)
        if found is None or found[1].decorator_list:
            return False
        module, definition = found
        if not definition.bases:
            return True
        base = module.origin(definition.bases[0])
        return (
            base == "object"
            or isinstance(getattr(builtins, base, None), type)
            or (not base and module.is_plain_class(definition.bases[0]))
        )

    def base(self, node: ast.expr) -> str:
        """Returns the library class that the last base of a class leads to; "" where there is none."""
        found = self._class(node)
        if found is None or not found[1].bases:
            return ""
        module, last = found[0], found[1].bases[-1]
        return module.origin(last) or module.base(last)

    def assigned(self, name: str) -> tuple[ast.expr, Module] | None:
        """Returns the value that a name is assigned and the module that does so; None where it is uncertain."""
        if not self.is_bound(name) or not self.bindings[name]:
            return None
        binding = self.bindings[name][-1]
        if binding.source[0] == "attribute":
            other = self.modules.get(binding.source[1])
            return None if other is None or other.loading else other.assigned(binding.source[2])
        statement = self.statements[binding.statement]
        alone = not isinstance(statement, ast.Assign) or (
            len(statement.targets) == 1 and isinstance(statement.targets[0], ast.Name)
        )
        if binding.source[0] != "here" or not isinstance(statement, (ast.Assign, ast.AnnAssign)) or not alone:
            return None
        return (statement.value, self) if statement.value is not None else None

    def _class(self, node: ast.expr) -> tuple[Module, ast.ClassDef] | None:
        if not isinstance(node, ast.Name) or not self.is_bound(node.id):
            return None
        if node.id in self.classes:
            return self, self.classes[node.id]
        source = self.bindings[node.id][-1].source
        other = self.modules.get(source[1]) if source[0] == "attribute" else None
        if other is None or other.loading:
            return None
        return other._class(ast.Name(source[2], ast.Load()))
