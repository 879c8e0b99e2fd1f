"""The Execution API guard: decides what a task's token may do, and refuses everything else.

`routes` is the table of the API's routes, `decisions` and `bodies` judge a request by plain facts, `database` looks the
facts up, `events` records refusals, and `middleware` puts them in front of Airflow's own application. Requests of
people (the REST API) do not belong here: `kommuna.airflow.server.ownership` judges them.
"""
