"""What the worker measured for each choice: records received, kept per choice, and turned into text."""
