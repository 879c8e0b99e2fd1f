"""`kommuna check`: checks a team's bundle without starting anything.

`command` prints the findings. `process` runs team code, each file in its own process with limits. `inspection` is the
program that runs there, and `judges` find mistakes in DAGs, steps, columns and rules. Findings are data (`finding`).
The platform's rules are not defined here, but in `kommuna.airflow.admission.rules`.
"""
