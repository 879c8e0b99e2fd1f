"""Rules as conditions on messages: text, SQL, Python, questions to an LLM."""
