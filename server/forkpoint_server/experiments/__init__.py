"""Live experiments: arms, assignment, outcomes, and their analysis."""
