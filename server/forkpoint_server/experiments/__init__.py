"""Experiments on live traffic: definition, assignment, outcomes and analysis."""
