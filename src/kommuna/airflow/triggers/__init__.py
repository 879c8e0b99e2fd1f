"""The triggers that deferred tasks may use, and the process that runs them."""
