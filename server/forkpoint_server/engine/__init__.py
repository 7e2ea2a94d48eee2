"""vLLM's engine with policies: what each request takes with it to the worker, and how many requests may run."""
