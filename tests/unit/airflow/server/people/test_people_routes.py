"""The table of people's routes is the one of the installed Airflow."""

from __future__ import annotations

import pytest

from kommuna.airflow.server.people.routes import TABLE, Need, find

_PLATFORMS_OWN = ("/kommuna/", "/static/", "/auth/static/")
_KEYCLOAKS = {f"/auth/{name}" for name in ("login", "login_callback", "logout", "logout_callback")}


@pytest.fixture(scope="module")
def application() -> list[tuple[str, str]]:
    """Every route of the real application and its auth manager, in the order in which it matches them."""
    from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager
    from airflow.api_fastapi.core_api.app import init_views
    from fastapi import FastAPI

    app, own = FastAPI(), SimpleAuthManager().get_fastapi_app()
    init_views(app)
    assert own is not None
    found = [
        (method, prefix + route.path)
        for prefix, of in (("", app), ("/auth", own))
        for route in of.routes
        for method in sorted(getattr(route, "methods", None) or ())
    ]
    return [(method, path.replace("/auth/auth", "/auth")) for method, path in found]


def test_the_table_has_every_route_and_no_other(application: list[tuple[str, str]]) -> None:
    table = [(row.method, row.path) for row in TABLE]
    assert len(table) == len(set(table))
    others = {one for one in table if one[1].startswith(_PLATFORMS_OWN) or one[1] in _KEYCLOAKS}
    print(f"{len(application)} endpoints, 100 % in the table")
    assert len(application) > 150
    assert set(table) - others == set(application)


def test_routes_are_matched_in_airflows_order(application: list[tuple[str, str]]) -> None:
    table = [(row.method, row.path) for row in TABLE]
    places = [table.index(one) for one in application if "rest_of_path" not in one[1]]
    assert places == sorted(places)


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/api/v2/new"), ("GET", "/ui/new"), ("PUT", "/api/v2/variables/x"), ("POST", "/x"), ("GET", "/kommuna/x")],
)
def test_another_path_is_not_open(method: str, path: str) -> None:
    assert find(method, path) is None


@pytest.mark.parametrize("path", ["/dags/x/runs/y", "/", "/uistuff", "/auth/anything"])
def test_the_pages_shell_is_open(path: str) -> None:
    found = find("GET", path)
    assert found is not None
    assert found[0].need is Need.PUBLIC
