"""DAGs of a team: `TeamDag`, the template of the whole chain, and the team's defaults for ordinary DAG files."""
