"""The `kommuna` model: several opinions on the votes, pooled as dev rows deserve."""
