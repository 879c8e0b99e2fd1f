"""Refinement: a loop that writes rules from the label model's errors on dev."""
