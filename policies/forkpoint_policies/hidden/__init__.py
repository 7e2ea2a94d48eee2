"""Signals of hidden states: what the states of the last layer say, beside the logits."""
