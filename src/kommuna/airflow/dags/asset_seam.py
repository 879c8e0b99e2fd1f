"""Adds the team to the names and addresses of its assets, as `seam` adds it to the ids of its DAGs.

Airflow's assets are global: a name or an address means one asset for all teams. A bare name gets the prefix (`scores`
becomes `support__scores`). An address that names no team gets the team as a parameter (`s3://bucket/x?team=support`).
An address that contains the team (`s3://bucket/support/x`) stays as it is. So does a name with another team's prefix:
it means that team's asset.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from types import ModuleType
from typing import Any

from kommuna.airflow.admission.rules import address_parts
from kommuna.airflow.dags import callers
from kommuna.airflow.dags.callers import PATCHED, calling_file
from kommuna.spec.installation import Place
from kommuna.spec.names import owner_of, qualified


def patch_assets(module: ModuleType) -> None:
    """Patches Airflow's assets, and references to them, to add the team.

    Args:
        module: `airflow.sdk.definitions.asset`.
    """
    for name, fill_in in (
        ("Asset", _of_asset),
        ("AssetAlias", _of_name),
        ("AssetNameRef", _of_name),
        ("AssetUriRef", _of_address),
    ):
        _wrap(vars(module)[name], fill_in)


def patch_asset_decorator(module: ModuleType) -> None:
    """Patches `@asset` to add the team.

    Args:
        module: `airflow.sdk.definitions.asset.decorators`.
    """
    _wrap(vars(module)["AssetDefinition"], _of_asset)
    operator = vars(module)["_AssetMainOperator"]
    given = operator._iter_kwargs

    def kwargs_by_parameter(self: Any, context: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
        """Maps parameters to assets: Airflow expects equal names, but the asset has the team's prefix."""
        prefix = f"{self.dag.dag_id.partition('__')[0]}__"
        function = self.python_callable
        signature = inspect.signature(function)
        named = {
            name: f"{prefix}{name}"
            for name, parameter in signature.parameters.items()
            if parameter.default is inspect.Parameter.empty and name not in _RESERVED and owner_of(name) is None
        }
        renamed = [parameter.replace(name=named.get(name, name)) for name, parameter in signature.parameters.items()]

        def with_assets_names() -> None: ...

        with_assets_names.__signature__ = signature.replace(parameters=renamed)  # type: ignore[attr-defined]
        self.python_callable = with_assets_names
        try:
            back = {full: name for name, full in named.items()}
            yield from [(back.get(name, name), value) for name, value in given(self, context)]
        finally:
            self.python_callable = function

    if not hasattr(given, PATCHED):
        setattr(kwargs_by_parameter, PATCHED, True)
        operator._iter_kwargs = kwargs_by_parameter


_RESERVED = ("self", "context", "outlet_events")


def asset_name(place: Place, name: str) -> str:
    """Returns an asset's name with the team's prefix, unless it has a team's prefix already."""
    teams = place.installation.platform.team_names
    return name if owner_of(name) in teams else qualified(place.team, name, teams=teams)


def asset_address(place: Place, address: str) -> str:
    """Returns an asset's address with the team in it, unless it names a team. Without a scheme it is a name."""
    if "://" not in address:
        return asset_name(place, address)
    if address_parts(address) & place.installation.platform.team_names:
        return address
    return f"{address}{'&' if '?' in address else '?'}team={place.team}"


def _of_asset(place: Place, name: Any, uri: Any) -> tuple[Any, Any]:
    name, uri = (uri, uri) if name is None else (name, name if uri is None else uri)
    address = str(uri)
    if not isinstance(name, str) or owner_of(name) in place.installation.platform.team_names - {place.team}:
        return name, uri  # another team's asset, or a value that Airflow refuses
    return asset_name(place, name), asset_address(place, address)


def _of_name(place: Place, name: Any, uri: Any) -> tuple[Any, Any]:
    return (asset_name(place, name) if isinstance(name, str) else name), uri


def _of_address(place: Place, name: Any, uri: Any) -> tuple[Any, Any]:
    return name, (asset_address(place, uri) if isinstance(uri, str) else uri)


def _wrap(made: Any, fill_in: Callable[[Place, Any, Any], tuple[Any, Any]]) -> None:
    make = made.__init__
    if hasattr(make, PATCHED):
        return
    names = [name for name in inspect.signature(make).parameters if name in ("name", "uri")]

    @functools.wraps(make)
    def make_in_team(self: Any, *arguments: Any, **options: Any) -> None:
        _, place = calling_file()
        if place is None and "Ref" in made.__name__:
            place = callers.parsed  # in a template, inlet_events.for_asset(name=…) has no calling file
        if place is not None:
            positional = dict(zip(list(inspect.signature(make).parameters)[1:], arguments, strict=False))
            given = {**positional, **options}
            name, uri = fill_in(place, given.get("name"), given.get("uri"))
            filled = {key: value for key, value in (("name", name), ("uri", uri)) if key in names and value is not None}
            arguments, options = (), {**given, **filled}
        make(self, *arguments, **options)

    setattr(make_in_team, PATCHED, True)
    made.__init__ = make_in_team
