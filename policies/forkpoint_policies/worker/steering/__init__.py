"""Changes of hidden states in the served model: vectors added to those of chosen tokens, and layers run again."""
