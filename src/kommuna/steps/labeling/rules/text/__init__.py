"""Keyword and regex rules: one pass over the text finds all keywords and the words that regexes need."""
