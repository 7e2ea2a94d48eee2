"""`forkpoint findings`: retests published findings; each is a module of `catalog`."""
