"""What the worker measured for each choice: its records are received, stored per choice, and turned into text."""
