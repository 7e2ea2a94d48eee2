"""What outlives the server, in SQLite or PostgreSQL: policies, experiments, assignments, outcomes and calibrations.

Every function that takes an `Engine` may block: call it through `executor.in_thread`, never in the event loop.
"""
