"""What people write, as data: frozen pydantic models, no I/O beyond reading a YAML file, no polars."""
