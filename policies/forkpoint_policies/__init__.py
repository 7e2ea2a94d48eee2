"""Policies for forking tokens: the language, the library, and the kernel that applies them inside vLLM."""
