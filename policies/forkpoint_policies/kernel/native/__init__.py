"""One step of a batch on a CPU: every row runs its own program, in one call of compiled C++ for any mix of policies."""
