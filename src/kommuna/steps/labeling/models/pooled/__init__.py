"""The `kommuna` model: a logarithmic opinion pool of several models, weighted on dev rows."""
