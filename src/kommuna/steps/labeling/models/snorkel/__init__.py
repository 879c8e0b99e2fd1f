"""Snorkel's LabelModel: the library's own, and the same computed sparsely."""
