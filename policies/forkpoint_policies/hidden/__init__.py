"""Signals of hidden states: what the last layer's states say, beside the logits. And vectors and readouts, as files."""
