"""Training a classifier from weak labels and dev rows, its evaluation, and batch scoring."""
