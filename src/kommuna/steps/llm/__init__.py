"""LLMs as the steps use them: any OpenAI-compatible endpoint, forced JSON answers, tries, a budget, a tally."""
