"""Keywords and regexes mined from dev rows, with bounds that hold after selection."""
