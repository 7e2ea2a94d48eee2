"""`forkpoint watch`: a live view of a server, from its /metrics page."""
