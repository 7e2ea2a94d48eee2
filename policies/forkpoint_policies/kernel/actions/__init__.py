"""What a rule that fires does to the logits."""
