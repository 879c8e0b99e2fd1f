"""`kommuna check`: judges a team's bundle without starting anything.

`command` prints what was found, `process` imports the team's code in a process of its own, `inspection` looks at each
file in it, `steps` at each step, `rules_files` at each rules file. Findings are data (`finding`). What the platform
allows is not decided here but in `kommuna.airflow.gate`.
"""
