"""Servers that share a PostgreSQL: each knows the others, and asks them for traces that it does not have."""
