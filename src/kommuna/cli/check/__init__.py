"""`kommuna check`: judges a team's bundle without starting anything.

`command` prints what was found. `process` runs a team's code, each file in a process of its own with limits;
`inspection` is what runs there, and `judges` say what is wrong with DAGs, steps, columns and rules. Findings are data
(`finding`). What the platform allows is not decided here but in `kommuna.airflow.admission.rules`.
"""
