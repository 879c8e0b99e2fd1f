"""CSV files: rows counted apart from the reader, and words for what is wrong with one."""
