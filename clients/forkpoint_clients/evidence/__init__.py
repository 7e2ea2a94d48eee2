"""Evidence on a served model: how a budget of tokens is spent, and the page that reports it."""
