"""CSV files: an independent row count, and errors that name the faulty row."""
