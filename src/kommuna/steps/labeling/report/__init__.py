"""The rule report: each rule's figures, errors and contribution, and the HTML page."""
