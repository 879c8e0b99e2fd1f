"""The table of routes is the one of the installed Airflow."""

from __future__ import annotations

import pytest

from kommuna.airflow.server.guard.routes import TABLE, Route, find

PER_VERSION = dict[str, list[tuple[str, str]]]


@pytest.fixture(scope="module")
def application() -> PER_VERSION:
    """Every route of the real application, by version of the API, in the order in which it matches them."""
    from airflow.api_fastapi.execution_api.app import create_task_execution_api_app

    app = create_task_execution_api_app()
    app._cadwyn_initialize()  # type: ignore[attr-defined]
    router = app.router

    def routes(of: object) -> list[tuple[str, str]]:
        return [(method, route.path) for route in of for method in sorted(route.methods)]  # type: ignore[attr-defined]

    found = {str(version): routes(one.routes) for version, one in router.versioned_routers.items()}  # type: ignore[attr-defined]
    return {**found, "": routes(router.unversioned_routes)}  # type: ignore[attr-defined]


def test_the_table_has_every_route_of_every_version_and_no_other(application: PER_VERSION) -> None:
    assert len(application) >= 10, list(application)
    there = {route for routes in application.values() for route in routes}
    table = [(route.method, route.path) for route in TABLE]
    assert len(table) == len(set(table))
    assert set(table) == there


def test_routes_are_matched_in_airflows_order(application: PER_VERSION) -> None:
    table = [(route.method, route.path) for route in TABLE]
    for version, routes in application.items():
        if version:
            assert [table.index(route) for route in routes] == sorted(map(table.index, routes)), version


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/variables/keys", "/variables/keys"),
        ("GET", "/variables/a/b", "/variables/{variable_key:path}"),
        ("GET", "/xcoms/d/r/t/k/item/3", "/xcoms/{dag_id}/{run_id}/{task_id}/{key:path}/item/{offset}"),
        ("GET", "/xcoms/d/r/t/a/b", "/xcoms/{dag_id}/{run_id}/{task_id}/{key:path}"),
        ("DELETE", "/store/ti/1", "/store/ti/{task_instance_id}"),
        ("DELETE", "/store/ti/1/k", "/store/ti/{task_instance_id}/{key:path}"),
    ],
)
def test_a_path_has_its_route(method: str, path: str, expected: str) -> None:
    found = find(method, path)
    assert found is not None
    assert found[0].path == expected


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/variables/x"), ("GET", "/"), ("GET", ""), ("GET", "/dags"), ("GET", "//dags/x")]
)
def test_another_path_has_none(method: str, path: str) -> None:
    assert find(method, path) is None


def test_a_new_route_of_airflow_is_not_open() -> None:
    assert not any(isinstance(found, Route) for found in (find("GET", "/secrets/x"), find("PATCH", "/variables/x")))
