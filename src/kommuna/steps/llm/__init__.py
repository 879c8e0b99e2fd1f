"""Clients of LLMs behind OpenAI-compatible endpoints: answers by JSON schema, retries, token and money budgets."""
