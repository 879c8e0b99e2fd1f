"""Detection of personal data in texts: numbers with check digits, phones, e-mail addresses, names."""
