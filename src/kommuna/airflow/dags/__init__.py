"""DAGs of a team: `TeamDag`, the template of the whole chain, and what an ordinary DAG file takes from its team."""
