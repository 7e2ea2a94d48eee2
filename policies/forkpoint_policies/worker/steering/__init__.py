"""Steering: vectors added to the hidden states of chosen tokens at chosen layers, inside the served model."""
