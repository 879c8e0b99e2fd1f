"""`ask` rules: a light LLM answers questions about masked messages by yes, no or don't know; answers are cached."""
