"""Find mistakes in a DAG, its steps, their columns and rules: each judge adds findings."""
