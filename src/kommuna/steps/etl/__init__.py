"""Steps that produce tables: read, clean, mask personal data, query by SQL, join by time."""
