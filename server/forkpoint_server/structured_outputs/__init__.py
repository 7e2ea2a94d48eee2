"""Structured outputs under a policy that bans words: the request's grammar, without the banned words."""
