"""Defaults that the options of `forkpoint findings` show, apart from what retests, which takes seconds to import."""

EMBEDDED, HARD, EASY = "countdown", "countdown:hard", "countdown:easy"
EMBEDDED_TOKENS = 1000
QUESTIONS, QUICK, MIN_QUESTIONS = 100, 16, 2
