"""The `kommuna` command."""
