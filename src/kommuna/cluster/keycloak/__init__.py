"""Makes the platform's client in Keycloak, and who may do what with each team's things, from the teams' descriptions.

`rights` is the table of roles, as data; `realm` writes it through Keycloak's admin API. What the API server does with
it is in `kommuna.airflow.server.keycloak`.
"""
