"""How the property tests of this folder run: the same examples every time, and no limit on a single one's time."""

from hypothesis import settings

settings.register_profile("repeatable", deadline=None, derandomize=True, database=None)
settings.load_profile("repeatable")
