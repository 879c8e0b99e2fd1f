"""The rule report: figures, errors and worth of each rule, and its page."""
