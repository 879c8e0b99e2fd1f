"""Kinds of rules: how keywords, regular expressions, SQL, Python and questions to an LLM are evaluated on messages."""
