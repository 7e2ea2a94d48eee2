"""How the tables came to be, one revision a file. Add one with each change of tables.py; never change an old one."""
