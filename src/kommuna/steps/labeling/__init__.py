"""Labeling steps: apply rules to messages, turn votes into labels, report on rules, and refine them."""
