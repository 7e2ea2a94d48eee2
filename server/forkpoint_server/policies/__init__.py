"""Which policy a request gets, compiled once for the served model and cached."""
