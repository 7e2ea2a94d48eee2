"""`forkpoint ab`: compares arms on one data set."""
