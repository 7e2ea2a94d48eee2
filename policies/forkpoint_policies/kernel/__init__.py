"""One step of a batch: measure the logits, decide which rules fire, change the logits, record. torch; no vLLM."""
