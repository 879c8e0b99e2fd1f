"""`ask` rules: questions to a light LLM about masked messages, answered yes, no or don't know, and kept."""
