"""`forkpoint ab`: arms compared on one data set."""
