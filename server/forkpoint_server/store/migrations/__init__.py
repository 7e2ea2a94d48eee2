"""How the tables came to be what they are, one revision a file. Add one with every change of tables.py, never change an old one."""
