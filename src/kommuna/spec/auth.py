"""`Auth`: how people log in to a platform on Kubernetes."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from kommuna.spec.base import Spec

GroupPath = Annotated[str, StringConstraints(pattern=r"^(/[^/]+)+$")]


class Auth(Spec):
    """How people log in: by Keycloak in production, or by Airflow's simple auth manager in trials."""

    kind: Literal["simple", "keycloak"] = Field(
        "simple", description="`keycloak` in production; `simple` knows the teams' `people`, with passwords of its own."
    )
    url: str = Field("", pattern=r"^(https?://.+)?$", description="Keycloak's address: https://HOST.")
    realm: str = Field("", description="The realm with the people.")
    client: str = Field(
        "kommuna", pattern=r"^[a-z][a-z0-9\-]*$", description="The platform's client; a job of the chart makes it."
    )
    secret: str = Field("", description="Secret with the client's secret, which you choose: `client-secret`.")
    admin_secret: str = Field(
        "",
        description="Secret with `client-id` and `client-secret` of a service account of the realm that may manage "
        "clients, authorization and users. Only the job reads it.",
    )
    ca_secret: str = Field(
        "", description="Secret with `ca.crt` that signs Keycloak's certificate; public ones if empty."
    )
    admin_groups: tuple[GroupPath, ...] = Field(
        (), description="Groups of the platform's administrators, by path, besides /CLIENT-admins."
    )
