"""How the property tests of this folder run: the same examples every time, and no limit on a single one's time."""

from forkpoint_policies.signals import warm_up
from hypothesis import settings

settings.register_profile("repeatable", deadline=None, derandomize=True, database=None)
settings.load_profile("repeatable")

warm_up()  # what is compiled once per process is not part of any example's time
