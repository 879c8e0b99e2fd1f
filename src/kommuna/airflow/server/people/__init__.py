"""Judges people's requests to the REST API and to Airflow's pages, for what an auth manager is never asked about.

`routes` has the table, `decisions` the rules, `persons` who asks, `rows` the database rows that a person's queries see,
`sign_in` the limit of failed sign-ins. The middleware puts them together.
"""
