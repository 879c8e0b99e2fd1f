"""Standard SQL over Polars: tokens, rewriting, numbers that cannot be computed."""
