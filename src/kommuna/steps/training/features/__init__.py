"""Texts and tables as numbers: TF-IDF, embeddings, columns."""
