"""One step of a batch: every row runs its own program, in a fixed number of launches whatever the mix."""
