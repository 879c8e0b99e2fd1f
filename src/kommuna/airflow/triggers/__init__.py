"""What deferred tasks may wait by, and the process that waits for them."""
