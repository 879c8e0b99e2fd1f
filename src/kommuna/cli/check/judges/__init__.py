"""What is wrong with a DAG, its steps, their columns and rules: each judge takes down findings."""
