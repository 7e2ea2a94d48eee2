"""Texts that are there already: where they fork, and which of their forks matter."""
