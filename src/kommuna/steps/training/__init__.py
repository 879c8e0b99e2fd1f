"""Training: a classifier from weak labels and a few trusted rows, its evaluation, and batch scoring."""
