"""Personal data in texts: numbers by their check digits, names, addresses."""
