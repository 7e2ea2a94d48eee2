"""What outlives the server: policies, experiments, assignments, outcomes and calibrations, in SQLite or PostgreSQL.

Every function here takes a Database and may wait for it: call them in threads, never in the event loop.
"""
