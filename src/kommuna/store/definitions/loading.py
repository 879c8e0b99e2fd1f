"""Simulates importing a bundle's modules, in order, without importing them.

A statement of a module either only binds names (`purity`) or has an effect: statements with effects are recorded as
`Act`s in the order in which they would run. For each name it is recorded where it is bound: by which statement, from
which module, and between which two acts.
"""

from __future__ import annotations

import ast
import builtins
import copy
from collections.abc import Iterator
from dataclasses import dataclass

from kommuna.store.definitions.files import BundleFiles, Unclear
from kommuna.store.definitions.module import Binding, Module
from kommuna.store.definitions.purity import has_pure_decorators, is_pure, is_pure_no_op
from kommuna.store.definitions.references import Import, bound_names, descendants, imports_run, is_string

_BUILTINS = frozenset(dir(builtins))
_HOOKS = frozenset(
    {
        *("__getattr__", "__dir__", "__path__", "__name__", "__spec__", "__loader__", "__package__", "__file__"),
        *("__builtins__", "__class__", "__annotations__", "__dict__", "__debug__", "__doc__"),
    }
)
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
LOADED_BEFORE = frozenset(  # by Kommuna, before the team's modules
    {
        *("collections.abc", "concurrent.futures", "importlib.metadata", "importlib.resources", "os.path"),
        *("urllib.parse",),
    }
)


@dataclass(frozen=True)
class Act:
    """An effect of importing a module: one of its statements, or a note that describes the effect."""

    module: str
    statement: int | None
    node: ast.stmt | None
    note: str = ""


class Loader:
    """Loads modules as import statements would.

    Args:
        files: the bundle.
        uncertain: whether it is unknown when modules are loaded, so that every import counts.
    """

    def __init__(self, files: BundleFiles, *, uncertain: bool) -> None:
        self._files = files
        self._uncertain = uncertain
        self._patched: set[str] = set()
        self.modules: dict[str, Module] = {}
        self.acts: list[Act] = []
        self.observed: set[tuple[str, str]] = set()
        """Names whose position in their module matters even if nothing refers to them."""

    def load(self, name: str, *, uncertain: bool) -> bool:
        """Loads a module of the bundle after its parents.

        Returns:
            Whether one of them may also be loaded at another time, so that the import statement itself counts.

        Raises:
            Unclear: a module is missing or cannot be read.
        """
        moment_matters = uncertain or self._uncertain
        parts = name.split(".")
        for count in range(1, len(parts) + 1):
            dotted = ".".join(parts[:count])
            if dotted in self.modules:
                moment_matters = moment_matters or self.modules[dotted].uncertain
                continue
            self._load_one(dotted, uncertain=uncertain or self._uncertain)
        return moment_matters

    def _load_one(self, name: str, *, uncertain: bool) -> None:
        path = self._files.find(name)
        if path is None:
            raise Unclear(f"the bundle has no module {name}")
        tree = ast.Module([], []) if path.endswith("/") else self._files.parse(path)
        module = Module(name, path, [], self._files, self.modules, self._patched, uncertain)
        self.modules[name] = module
        module.statements = list(_flat(tree, self._files))
        bound = [list(bound_names([statement])) for statement in module.statements]
        for bound_name, node in (pair for pairs in bound for pair in pairs):
            module.binders[bound_name].append(node)
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Del):
                module.changed.add(bound_name)
        hooks = _HOOKS & set(module.binders)
        if hooks:
            raise Unclear(f"{path} defines {min(hooks)}")
        self._survey(module)
        first_act = len(self.acts)
        for index, statement in enumerate(module.statements):
            self._run(module, index, statement, [name for name, _ in bound[index]], first_act)
        module.loading = False
        module.position = len(self.acts)
        parent, _, last = name.rpartition(".")
        if parent and self._sets_another_attribute(self.modules[parent], last):
            self.acts.append(Act(parent, None, None, f"attribute {last} becomes module {name}"))

    def _survey(self, module: Module) -> None:
        """Records the statements at any depth of a module that may change names."""
        imported: set[str] = set()
        assigned: list[tuple[str, str]] = []
        for node in descendants(module.statements):
            if isinstance(node, ast.Global):
                module.changed.update(node.names)
            elif isinstance(node, (ast.Import, ast.ImportFrom)):
                imported.update(name for name, _ in bound_names([node]))
                if isinstance(node, ast.ImportFrom):
                    if node.module == "__future__":
                        module.eager_annotations &= all(alias.name != "annotations" for alias in node.names)
                    elif node.names[0].name == "*":
                        module.star_library |= self._files.find(module.absolute(node).partition(".")[0]) is None
            elif isinstance(node, ast.Attribute) and not isinstance(node.ctx, ast.Load):
                base: ast.expr = node
                while isinstance(base, ast.Attribute):
                    base = base.value
                if isinstance(base, ast.Name):
                    assigned.append((base.id, node.attr))
        self._patched.update(attribute for root, attribute in assigned if root in imported)

    def _note_replaced(self, module: Module, node: ast.ImportFrom, first_act: int) -> None:
        """Records a package's `from .clean import clean`, after which the name no longer refers to the submodule.

        This is certain only if the statement itself loads the submodule, so that no code runs in between.
        """
        base = module.absolute(node)
        package, _, name = base.rpartition(".")
        acted = any(not isinstance(act.node, (ast.Import, ast.ImportFrom)) for act in self.acts[first_act:])
        if (
            package == module.name
            and base not in self.modules
            and module.binders.get(name) == [node]
            and not module.is_rebound(name)
            and not ((module.uncertain or self._uncertain) and acted)
        ):
            module.replaced.add(name)

    def _sets_another_attribute(self, package: Module, name: str) -> bool:
        """Whether loading a submodule replaces another object that its package binds to that name."""
        if name in package.replaced:
            return False
        binders = package.binders.get(name, [])
        stars = bool(package.bindings.get(name)) and not binders
        return stars or any(
            not (
                isinstance(node, ast.ImportFrom)
                and package.absolute(node) == package.name
                and all(alias.asname != name for alias in node.names)
            )
            for node in binders
        )

    def _run(self, module: Module, index: int, node: ast.stmt, names: list[str], first_act: int) -> None:
        if is_pure_no_op(node):
            return
        rebound = any(module.is_rebound(name) for name in names)
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            if isinstance(node, ast.ImportFrom):
                self._note_replaced(module, node, first_act)
            matters = self._import(module, index, node, uncertain=module.uncertain)
            if matters or rebound:
                self.acts.append(Act(module.name, index, node))
            if not (rebound and isinstance(node, ast.ImportFrom)):
                module.sure.update(names)
            return
        pure = is_pure(node, module)
        if not pure or rebound:
            self._act(module, index, node, signature=not rebound)
        for name in names:
            if not (isinstance(node, ast.AnnAssign) and node.value is None):
                module.bindings[name].append(Binding(index, ("here",), len(self.acts)))
        annotated = isinstance(node, ast.AnnAssign) and node.value is not None
        if annotated or isinstance(node, (*_FUNCTIONS, ast.ClassDef, ast.Assign)):
            module.sure.update(names)
        if isinstance(node, ast.ClassDef) and pure:
            module.classes[node.name] = node

    def _act(self, module: Module, index: int, node: ast.stmt, *, signature: bool) -> None:
        for inner in imports_run(node):
            self._import(module, index, inner, uncertain=True)
        if signature and isinstance(node, _FUNCTIONS) and has_pure_decorators(node, module):
            head = copy.copy(node)
            head.body = [ast.Pass()]
            self.acts.append(Act(module.name, None, head))
        else:
            self.acts.append(Act(module.name, index, node))

    def _import(self, module: Module, index: int, node: Import, *, uncertain: bool) -> bool:
        """Loads the modules of an import statement and binds its names; returns whether the statement itself counts."""
        matters = uncertain or self._uncertain
        if isinstance(node, ast.Import):
            for alias in node.names:
                top, _, rest = alias.name.partition(".")
                matters |= self._load_named(module, node, alias.name, uncertain=uncertain)
                source: tuple[str, ...] = ("module", top)
                if alias.asname:
                    parent, _, last = alias.name.rpartition(".")
                    source = ("attribute", parent, last) if rest else ("module", alias.name)
                name = alias.asname or top
                module.bindings[name].append(Binding(index, source, len(self.acts)))
            return matters
        base = module.absolute(node)
        if base == "__future__":
            return False
        if not base:
            raise Unclear(f"{module.path}:{node.lineno} imports from above the bundle")
        matters |= self._load_named(module, node, base, uncertain=uncertain)
        here = self.modules.get(base)
        for alias in node.names:
            if alias.name == "*":
                matters |= self._import_star(module, index, base, uncertain=uncertain)
                continue
            if here is None:
                matters |= "experimental" in base or alias.name.startswith("enable_")
            else:
                matters |= self._import_attribute(here, alias.name, uncertain=uncertain)
            source = ("attribute", base, alias.name)
            module.bindings[alias.asname or alias.name].append(Binding(index, source, len(self.acts)))
        return matters

    def _load_named(self, module: Module, node: Import, name: str, *, uncertain: bool) -> bool:
        if self._files.find(name.partition(".")[0]) is None:
            # `import xml.etree` also sets the attribute `etree` of `xml` for all other code.
            return not self._files.is_known_library(name) or ("." in name and name not in LOADED_BEFORE)
        if self._files.find(name) is None:
            raise Unclear(f"{module.path}:{node.lineno} imports {name}, which the bundle does not have")
        return self.load(name, uncertain=uncertain)

    def _import_attribute(self, module: Module, name: str, *, uncertain: bool) -> bool:
        """Loads the submodule that `from module import name` may mean; returns whether the import itself counts."""
        submodule = f"{module.name}.{name}"
        exists = module.is_package and self._files.find(submodule) is not None
        sure = module.is_bound(name)
        if exists and not sure:
            return self.load(submodule, uncertain=uncertain or self._sets_another_attribute(module, name))
        if module.loading or uncertain or self._uncertain or module.uncertain:
            self.observed.add((module.name, name))
            return True
        return not sure

    def _import_star(self, module: Module, index: int, base: str, *, uncertain: bool) -> bool:
        other = self.modules.get(base)
        if other is None:
            return True
        if other.loading:
            raise Unclear(f"{module.path} imports * from {base}, which imports it")
        names, listed = _exported(other)
        matters = not listed
        for name in names:
            submodule = f"{base}.{name}"
            if name not in other.bindings and other.is_package and self._files.find(submodule):
                matters |= self.load(submodule, uncertain=uncertain)
            elif not other.is_bound(name):
                matters = True
            if name in module.binders or name in module.bindings:
                module.changed.add(name)
            matters |= name in module.changed or name in _BUILTINS
            module.bindings[name].append(Binding(index, ("attribute", base, name), len(self.acts)))
            if uncertain or self._uncertain or other.uncertain:
                self.observed.add((base, name))
        if not matters:
            module.sure.update(names)
        return matters


def _exported(module: Module) -> tuple[list[str], bool]:
    """Returns the names that `from module import *` may bind, and whether it certainly binds all of them."""
    written = module.binders.get("__all__", [])
    if not written:
        names = [name for name in module.bindings if not name.startswith("_")]
        loaded = [m.rpartition(".")[2] for m in module.modules if m.rpartition(".")[0] == module.name]
        return sorted({*names, *loaded}), not module.is_package and not module.star_library
    uses = sum(isinstance(n, ast.Name) and n.id == "__all__" for s in module.statements for n in ast.walk(s))
    for node in module.statements:
        if not isinstance(node, ast.Assign) or node.targets[0] not in written:
            continue
        items = node.value.elts if isinstance(node.value, (ast.List, ast.Tuple)) else [node.value]
        names = [item.value for item in items if isinstance(item, ast.Constant) and isinstance(item.value, str)]
        if len(names) == len(items) and uses == 1 and isinstance(node.value, (ast.List, ast.Tuple)):
            return sorted(set(names)), True
    constants = (n.value for s in module.statements for n in ast.walk(s) if isinstance(n, ast.Constant))
    strings = (value for value in constants if isinstance(value, str) and value.isidentifier())
    return sorted({*module.bindings, *strings}), False


def _flat(tree: ast.Module, files: BundleFiles) -> Iterator[ast.stmt]:
    """Yields a module's statements without its docstring and without blocks that do not run at import."""
    body = tree.body[1:] if tree.body and is_string(tree.body[0]) else tree.body
    guard = next(filter(None, map(_typing_guard, body)), None) if files.find("typing") is None else None
    bound = [name for name, _ in bound_names(body)] if guard else []
    if guard and (bound.count(guard.partition(".")[0]) > 1 or _declares_global(tree, guard.partition(".")[0])):
        guard = None
    for node in body:
        test = ast.unparse(node.test) if isinstance(node, ast.If) else ""
        if isinstance(node, ast.If) and (test == guard or test == "__name__ == '__main__'"):
            yield from node.orelse
        else:
            yield node


def _declares_global(tree: ast.Module, name: str) -> bool:
    return any(isinstance(node, ast.Global) and name in node.names for node in descendants([tree]))


def _typing_guard(node: ast.stmt) -> str | None:
    """Returns the name of `TYPE_CHECKING` after an import statement."""
    if isinstance(node, ast.Import) and any(alias.name == "typing" and not alias.asname for alias in node.names):
        return "typing.TYPE_CHECKING"
    if isinstance(node, ast.ImportFrom) and node.module == "typing" and not node.level:
        names = [alias.asname or alias.name for alias in node.names if alias.name == "TYPE_CHECKING"]
        return names[0] if names else None
    return None
