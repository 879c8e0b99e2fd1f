"""Finds the definitions that the code of a step refers to by name, through any number of modules."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from kommuna.store.definitions.files import BundleFiles, Unclear
from kommuna.store.definitions.loading import Act, Loader
from kommuna.store.definitions.module import Module
from kommuna.store.definitions.references import Chain, Import, References, imports_run, references

Target = tuple[str, ...]
"""A meaning of a name: `("definition", module, name)`, `("module", name)`, `("library", dotted)`, `("missing", …)`."""

_UNCLEAR_NAMES = frozenset(
    {
        *("globals", "locals", "vars", "dir", "eval", "exec", "compile", "help", "breakpoint", "__import__"),
        *("__builtins__", "__doc__", "__file__", "__spec__", "__loader__", "__package__", "__path__"),
        *("__annotations__", "__dict__"),
    }
)
_UNCLEAR_ATTRIBUTES = frozenset(
    {
        *("__dict__", "__code__", "__globals__", "__closure__", "__doc__", "__file__", "__spec__", "__loader__"),
        *("__path__", "__subclasses__", "__builtins__", "__traceback__", "__import__", "__package__"),
        *("__getattr__", "__getattribute__", "setLoggerClass"),
        *("tb_frame", "tb_lineno", "tb_next", "f_back", "f_code", "f_globals", "f_locals", "f_lineno"),
        *("gi_frame", "gi_code", "cr_frame", "cr_code", "ag_frame", "co_code", "co_consts", "co_names"),
        *("lineno", "catch_warnings", "showwarning", "formatwarning", "findCaller", "CallsiteParameterAdder"),
        *("co_firstlineno", "co_filename", "co_lines", "import_module", "exec_module", "load_module"),
        *("allow_pickle", "read_pickle", "load_model", "unsafe_load", "python_scan_all_frames", "full_load"),
    }
)
_UNCLEAR_LIBRARIES = re.compile(
    r"(importlib(?!\.(metadata|resources))|imp|runpy|pkgutil|zipimport|pyclbr|modulefinder|inspect|ast(?!\.literal_eval)|dis|symtable"
    r"|tokenize|linecache|traceback|gc|code|codeop|pdb|trace|timeit|profile|cProfile|bdb|doctest|pydoc|marshal"
    r"|pickle|_pickle|pickletools|copyreg|shelve|cloudpickle|dill|jsonpickle|unittest\.mock|mock|pytest|site"
    r"|hydra|gin|jsonargparse|fire|logging\.config|skops\.io\.load|joblib\.load|torch\.load|pandas\.read_pickle|builtins\.(eval|exec|compile|globals|locals|vars|__import__)"
    r"|sys\.(modules|path|meta_path|path_hooks|path_importer_cache|_getframe|_current_frames|settrace|setprofile"
    r"|exc_info|last_traceback|last_exc))(\.|$)|(.*\.)?sys\.(modules|path|meta_path|_getframe)(\.|$)"
)
# Modules whose functions `purity` trusts, or that give access to unclear things: code must not pass on or patch them.
_TRUSTED = frozenset(
    {
        "functools",
        "dataclasses",
        "typing",
        "abc",
        "contextlib",
        "enum",
        "re",
        "pathlib",
        "builtins",
        "collections",
        "logging",
        "sys",
    }
)
_PATCHED_HOOKS = frozenset({"__getattr__", "__dir__", "__all__", "__init_subclass__", "__set_name__", "__class__"})
# Functions that read variables of the calling module, by names in a string.
_FRAME_READERS = frozenset({"query", "eval", "sql", "execute", "SQLContext", "register_globals"})
_FRAME_LIBRARIES = re.compile(r"(duckdb|pandasql|numexpr|patsy|formulaic|statsmodels)(\.|$)")
_BY_NAME = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*|[^\W\d]\w*(\.[^\W\d]\w*)+")


class LoadsLate(Exception):
    """Code that runs at import may import modules within a function."""


@dataclass
class Counted:
    """A statement that counts, and the meanings of its names."""

    module: str
    node: ast.stmt
    found: References
    meanings: dict[Chain, tuple[Target, ...]] = field(default_factory=dict)


class Reach:
    """Collects every statement that counts: those with effects at import, those reached, and what they refer to.

    Args:
        files: the bundle.
        loader: loads the modules that the statements import.
        late_allowed: whether code that runs at import may import modules within a function; if not, it raises
            `LoadsLate`.
    """

    def __init__(self, files: BundleFiles, loader: Loader, *, late_allowed: bool) -> None:
        self._files = files
        self._loader = loader
        self._late_allowed = late_allowed
        self._late: set[str] = set()
        self._early: frozenset[str] = frozenset()
        self._queue: list[Counted] = []
        self._acts_seen = 0
        self._modules_seen = 0
        self._whole: set[str] = set()
        self.acts: list[tuple[Act, Counted | None]] = []
        self.definitions: dict[tuple[str, int], Counted] = {}
        self.places: set[tuple[int, str, str]] = set()
        """Position among the acts, module and name of bindings whose position counts."""
        self.values: set[Target] = set()
        """Objects that are passed on, so that their docstring may be read."""
        self.value_attributes: set[str] = set()
        self.futures: set[tuple[str, bool]] = set()
        self.unclear: set[str] = set()

    def start(self) -> None:
        """Marks the modules loaded so far as loaded before any code that may load more runs."""
        self._early = frozenset(self._loader.modules)

    def follow(self) -> None:
        """Reads the statements in the queue, those that they refer to, and so on.

        Raises:
            LoadsLate: a function that may run at import loads modules, and `late_allowed` is False.
        """
        while True:
            self._take_acts()
            waiting: list[Counted] = []
            while self._queue:
                counted = self._queue.pop()
                self._read(counted)
                if self._late:
                    waiting.append(counted)
            if self._late and not self._late_allowed:
                raise LoadsLate
            for name in sorted(self._late):
                self._loader.load(name, uncertain=True)
            self._late.clear()
            self._queue.extend(waiting)
            if not self._queue and self._acts_seen == len(self._loader.acts):
                if self._modules_seen == len(self._loader.modules):
                    return
                # A name may mean a module that was not loaded yet when it was read.
                self._modules_seen = len(self._loader.modules)
                self._whole.clear()
                self._queue.extend(self.definitions.values())
                self._queue.extend(counted for _, counted in self.acts if counted is not None)

    def allow_late(self) -> None:
        """Allows late imports: from now on the step's own call is followed, which may import modules."""
        self._late_allowed = True

    def attribute(
        self, module: str, name: str, position: int = -1, seen: frozenset[Target] = frozenset()
    ) -> set[Target]:
        """Returns the possible meanings of an attribute of a bundle module.

        Args:
            module: a module of the bundle.
            name: the attribute.
            position: position of the binding that refers to it; -1 if code refers to it.
            seen: attributes that have been followed to get here.
        """
        found: set[Target] = set()
        submodule = f"{module}.{name}"
        loaded = self._loader.modules.get(module)
        if loaded is None:
            self._late.add(module)
            return set()
        if (module, name) in seen:
            return set()
        if loaded.bindings.get(name):
            found |= self._bindings(loaded, name, position, seen | {(module, name)})
        if loaded.is_package and name not in loaded.replaced and self._files.find(submodule) is not None:
            if submodule in self._loader.modules:
                found.add(("module", submodule))
                if submodule in self._early:
                    self.places.add((self._loader.modules[submodule].position, submodule, ""))
                else:
                    found.add(("late", submodule))
            elif not found:
                self._late.add(submodule)
                return set()
        return found or {("missing", module, name)}

    def whole(self, module: Module) -> None:
        """Makes every name of a module count."""
        if module.name not in self._whole:
            self._whole.add(module.name)
            for name in list(module.bindings):
                self.attribute(module.name, name)

    def _take_acts(self) -> None:
        for act in self._loader.acts[self._acts_seen :]:
            counted = None
            if act.node is not None:
                counted = self._count(act.module, act.node)
            self.acts.append((act, counted))
        self._acts_seen = len(self._loader.acts)
        for module in list(self._loader.modules.values()):
            if self._files.shadows_library(module.name):
                self.whole(module)

    def _bindings(self, module: Module, name: str, position: int, seen: frozenset[Target]) -> set[Target]:
        found: set[Target] = set()
        for binding in module.bindings[name]:
            here = binding.source[0] == "here"
            if position == -1 or here or binding.position != position:
                self.places.add((binding.position, module.name, name))
            if here:
                self._define(module, binding.statement)
                found.add(("definition", module.name, name))
            elif binding.source[0] == "module":
                found.add(self._module(binding.source[1]))
            elif self._files.find(binding.source[1].partition(".")[0]) is None:
                found.add(("library", ".".join(binding.source[1:])))
            else:
                found |= self.attribute(binding.source[1], binding.source[2], binding.position, seen)
        return found

    def _module(self, name: str) -> Target:
        return ("module" if self._files.find(name.partition(".")[0]) is not None else "library", name)

    def _define(self, module: Module, index: int) -> None:
        if (module.name, index) not in self.definitions:
            node = module.statements[index]
            self.definitions[module.name, index] = self._count(module.name, node)

    def _count(self, module: str, node: ast.stmt) -> Counted:
        counted = Counted(module, node, references(node))
        self._queue.append(counted)
        return counted

    def _read(self, counted: Counted) -> None:
        module = self._loader.modules[counted.module]
        found = counted.found
        self.futures.add((module.name, module.eager_annotations))
        aliases = self._nested_imports(module, counted)
        for chain, line in found.chains.items():
            self._mean(counted, module, chain, line, aliases)
        for chain in found.words():
            if chain[0] in module.bindings or chain[0] in aliases:
                counted.meanings[chain] = tuple(sorted(self._chain(module, chain, aliases)))
        for string in found.strings | found.annotations:
            self._named(counted, string)
            if string.startswith("__") and string in _UNCLEAR_ATTRIBUTES | _UNCLEAR_NAMES | _PATCHED_HOOKS:
                self.unclear.add(f"{module.path}:{counted.node.lineno} names {string}")
            if "python_scan_all_frames" in string:
                self.unclear.add(f"{module.path}:{counted.node.lineno} lets SQL read the variables of every caller")
        for attribute, line in found.attributes.items():
            if attribute in _UNCLEAR_ATTRIBUTES:
                self.unclear.add(f"{module.path}:{line} uses {attribute}")
        if found.file_names:
            counted.meanings["__file__",] = (("file", module.path),)
        self.value_attributes |= found.value_attributes
        libraries = [t[1] for targets in counted.meanings.values() for t in targets if t[0] == "library"]
        reads = _FRAME_READERS & {*found.attributes, *(chain[0] for chain in found.chains)}
        if reads or any(_FRAME_LIBRARIES.match(name) for name in libraries):
            self.whole(module)

    def _nested_imports(self, module: Module, counted: Counted) -> dict[str, set[Target]]:
        """Loads the modules of a statement's nested imports, and returns the meanings of the imported names."""
        aliases: dict[str, set[Target]] = {}
        run = list(imports_run(counted.node))  # the loader has bound their names
        for node in run:
            self._run(module, node, counted)
        for node in counted.found.imports:
            if node in run:
                continue
            for name, targets in self._imported(module, node):
                aliases.setdefault(name, set()).update(targets)
        for name, targets in aliases.items():
            counted.meanings[("import", name)] = tuple(sorted(targets))
            for target in targets:
                self._check_library(target, module, counted.node.lineno)
        return aliases

    def _run(self, module: Module, node: Import, counted: Counted) -> None:
        """Records the kind of each name of an import statement, without following it."""
        base = module.absolute(node) if isinstance(node, ast.ImportFrom) else ""
        for alias in node.names:
            dotted = f"{base}.{alias.name}".lstrip(".")
            kinds = [self._module(dotted.partition(".")[0])[0], "file" if self._files.find(dotted) else "no file"]
            if base in self._loader.modules and alias.name in self._loader.modules[base].bindings:
                kinds.append("bound")
            counted.meanings["import", dotted] = (tuple(kinds),)

    def _imported(self, module: Module, node: Import) -> Iterator[tuple[str, set[Target]]]:
        if isinstance(node, ast.Import):
            for alias in node.names:
                top = alias.name.partition(".")[0]
                self._load(module, node, alias.name)
                parent, _, last = alias.name.rpartition(".")
                if not alias.asname or not parent:
                    yield alias.asname or top, {self._module(alias.name if alias.asname else top)}
                elif self._files.find(top) is None:
                    yield alias.asname, {("library", alias.name)}
                else:
                    yield alias.asname, self.attribute(parent, last)
            return
        base = module.absolute(node)
        if not base:
            raise Unclear(f"{module.path}:{node.lineno} imports from above the bundle")
        self._load(module, node, base)
        for alias in node.names:
            if alias.name == "*":
                if base in self._loader.modules:
                    self.whole(self._loader.modules[base])
            elif self._files.find(base.partition(".")[0]) is None:
                yield alias.asname or alias.name, {("library", f"{base}.{alias.name}")}
            else:
                yield alias.asname or alias.name, self.attribute(base, alias.name)

    def _load(self, module: Module, node: Import, name: str) -> None:
        if self._files.find(name.partition(".")[0]) is None:
            return
        if self._files.find(name) is None:
            raise Unclear(f"{module.path}:{node.lineno} imports {name}, which the bundle does not have")
        if not self._late_allowed:
            raise LoadsLate
        if name not in self._loader.modules:
            self._late.add(name)

    def _mean(self, counted: Counted, module: Module, chain: Chain, line: int, aliases: dict[str, set[Target]]) -> None:
        found = counted.found
        targets = self._chain(module, chain, aliases)
        stored = chain in found.stored
        for target in targets:
            self._check_library(target, module, line)
            if target[0] == "module" and (chain in found.values or not stored):
                self.unclear.add(f"{module.path}:{line} passes on the module {target[1]}")
            if target[0] == "library":
                top, _, rest = target[1].partition(".")
                if top in _TRUSTED and not rest and chain in found.values:
                    self.unclear.add(f"{module.path}:{line} passes on the module {top}")
                if top in _TRUSTED and rest and stored and len(chain) > 1:
                    self.unclear.add(f"{module.path}:{line} replaces {target[1]}")
            if target[0] == "missing" and (target[2] in _UNCLEAR_NAMES or chain in found.deleted):
                self.unclear.add(f"{module.path}:{line} uses {'.'.join(chain)}")
        if stored and (chain[-1] in _PATCHED_HOOKS or (len(chain) > 1 and chain in found.deleted and targets)):
            self.unclear.add(f"{module.path}:{line} changes {'.'.join(chain)}")
        if not targets and chain[0] in _UNCLEAR_NAMES:
            self.unclear.add(f"{module.path}:{line} uses {chain[0]}")
        if chain in found.values:
            self.values |= targets
        if targets:
            counted.meanings[chain] = tuple(sorted(targets))

    def _chain(self, module: Module, chain: Chain, aliases: dict[str, set[Target]]) -> set[Target]:
        """Returns the possible meanings of a chain; empty for builtins and for unbound names."""
        targets = set(aliases.get(chain[0], ()))
        if module.bindings.get(chain[0]) or f"{module.name}.{chain[0]}" in self._loader.modules:
            targets |= self.attribute(module.name, chain[0])
        for name in chain[1:]:
            step: set[Target] = set()
            for target in targets:
                if target[0] == "module":
                    step |= self.attribute(target[1], name)
                elif target[0] == "library":
                    step.add(("library", f"{target[1]}.{name}"))
                else:
                    step.add(target)
            targets = step
        return targets

    def _named(self, counted: Counted, string: str) -> None:
        """Follows `module:function` and `module.function` in a string: a library may import it by that name."""
        if string[-1:] in (".", ":") and string[:-1] in self._early:
            path = self._loader.modules[counted.module].path
            self.unclear.add(f"{path}:{counted.node.lineno} builds the name of a module in {string[:-1]}")
        if len(string) > 200 or not _BY_NAME.fullmatch(string):
            return
        dotted, colon, attributes = string.partition(":")
        parts = dotted.split(".")
        if colon:
            if self._files.find(dotted) is None:
                return
            if not self._late_allowed:
                raise LoadsLate
            if dotted not in self._loader.modules:
                self._late.add(dotted)
                return
            name, chain = dotted, attributes.split(".")
        else:
            loaded = [c for c in range(1, len(parts)) if ".".join(parts[:c]) in self._early]
            if not loaded:
                return
            name, chain = ".".join(parts[: loaded[-1]]), parts[loaded[-1] :]
        counted.meanings["string", string] = tuple(sorted(self.attribute(name, chain[0])))

    def _check_library(self, target: Target, module: Module, line: int) -> None:
        if target[0] == "library" and _UNCLEAR_LIBRARIES.match(target[1]):
            self.unclear.add(f"{module.path}:{line} uses {target[1]}")
