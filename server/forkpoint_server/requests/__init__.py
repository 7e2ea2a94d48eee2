"""One request in flight: its context, its tree of choices, its summary, and the recent traces."""
