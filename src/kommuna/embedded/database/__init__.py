"""The embedded platform's PostgreSQL: its programs and data folder, and the databases in it.

It listens on a Unix socket in a folder of the user's own, and lets in the user who started it, as the kernel names him:
there is no password, and no port.
"""
