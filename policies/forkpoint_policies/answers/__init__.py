"""Answers in one spelling, so that equal ones are equal strings. Nothing of a text is executed."""
