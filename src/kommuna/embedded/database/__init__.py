"""The embedded platform's PostgreSQL: its programs and data folder, and the databases in it.

It listens on a Unix socket in a private folder and lets in only the user who started it, by the user id that the kernel
reports (peer authentication). It has neither a password nor a port.
"""
