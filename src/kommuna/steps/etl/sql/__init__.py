"""Standard SQL over Polars: parsing, rewriting, and numbers that cannot be computed."""
