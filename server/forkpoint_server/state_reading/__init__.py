"""The hidden states of a stored answer: what readouts and vectors are fitted to."""
