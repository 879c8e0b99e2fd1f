"""Frozen pydantic models of what people write. No I/O beyond reading a YAML or JSON file, and no polars."""
