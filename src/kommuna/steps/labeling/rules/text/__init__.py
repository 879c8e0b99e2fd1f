"""Rules that look at text: one pass finds every keyword and every word that a regex needs."""
