"""Makes an ordinary DAG file work in a team's bundle: patches Airflow's `DAG` to fill in the team's defaults.

Every DAG passes through the constructor: `DAG`, `@dag`, `@asset`, and libraries that imported the class earlier. In the
processes that import DAG files (parser, worker, `kommuna check`) the patched constructor adds the team's prefix, owner
and tags. The policy (`policies.complete`) fills in pools and the ids of other DAGs, once all tasks exist. This is a
convenience, not a control: admission checks the result. The module level imports nothing of Airflow, since Airflow
loads this module while it starts.
"""

from __future__ import annotations

import functools
import importlib.util
import sys
from collections.abc import Callable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from kommuna.airflow.dags.callers import PATCHED, calling_file
from kommuna.spec.installation import Place
from kommuna.spec.names import qualified
from kommuna.spec.texts import text_list

before_test: list[Callable[[Any], None]] = []  # called with a DAG before its `test()` runs it


def install() -> None:
    """Applies the patches now, or as soon as Airflow's module is imported."""
    for name, seam in _PATCHES.items():
        module = sys.modules.get(name)
        if module is not None and not getattr(module.__spec__, "_initializing", False):
            seam(module)
        elif not any(isinstance(finder, _AfterImport) and finder.name == name for finder in sys.meta_path):
            sys.meta_path.insert(0, _AfterImport(name))


def patch_dag(module: ModuleType) -> None:
    """Patches the constructor of a module's `DAG` to fill in what a team's DAG file leaves out."""
    dag_class: Any = vars(module)["DAG"]
    make = dag_class.__init__
    if hasattr(make, PATCHED):
        return

    @functools.wraps(make)
    def make_in_team(dag: Any, *arguments: Any, **options: Any) -> None:
        file, place = calling_file()
        if place is not None:
            arguments, options = with_team_defaults(place, arguments, options)
        make(dag, *arguments, **options)
        dag.fileloc = file

    test = dag_class.test

    @functools.wraps(test)
    def test_in_team(dag: Any, *arguments: Any, **options: Any) -> Any:
        for prepare in before_test:
            prepare(dag)
        return test(dag, *arguments, **options)

    setattr(make_in_team, PATCHED, True)
    dag_class.__init__ = make_in_team
    dag_class.test = test_in_team


def with_team_defaults(
    place: Place, arguments: tuple[Any, ...], options: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Adds the team's prefix, owner and tags to the arguments of a `DAG`.

    Args:
        place: the team of the file that makes the DAG.
        arguments: the positional arguments; the first is the DAG's id, if there is one.
        options: the arguments by name.

    Raises:
        SpecError: the id has another team's prefix.
    """
    team, teams = place.spec, place.installation.platform.team_names
    dag_id = arguments[0] if arguments else options.get("dag_id")
    if isinstance(dag_id, str):
        named = qualified(place.team, dag_id, teams=teams)
        arguments, options = ((named, *arguments[1:]), options) if arguments else ((), {**options, "dag_id": named})
    defaults = {"owner": team.owner or place.team, **(options.get("default_args") or {})}
    tags = sorted({place.team, *team.tags, *text_list("tags", options.get("tags") or ())})
    return arguments, {**options, "default_args": defaults, "tags": tags}


def _patch_assets(module: ModuleType) -> None:
    from kommuna.airflow.dags.asset_seam import patch_assets

    patch_assets(module)


def _patch_asset_decorator(module: ModuleType) -> None:
    from kommuna.airflow.dags.asset_seam import patch_asset_decorator

    patch_asset_decorator(module)


_PATCHES: dict[str, Callable[[ModuleType], None]] = {
    "airflow.sdk.definitions.dag": patch_dag,
    "airflow.sdk.definitions.asset": _patch_assets,
    "airflow.sdk.definitions.asset.decorators": _patch_asset_decorator,
}


class _AfterImport(MetaPathFinder):
    """Patches a module of Airflow once it is imported."""

    def __init__(self, name: str) -> None:
        self.name = name

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != self.name:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            run = spec.loader.exec_module

            def run_and_patch(module: ModuleType) -> None:
                run(module)
                _PATCHES[fullname](module)

            spec.loader.exec_module = run_and_patch  # type: ignore[method-assign]
        return spec
