"""Steps that make tables: reading, cleaning, masking of personal data, SQL, joins."""
