"""Mines keywords and regular expressions from dev rows, and screens proposed rules."""
