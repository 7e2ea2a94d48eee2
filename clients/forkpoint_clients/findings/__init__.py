"""How published findings are tested again: what is asked, what is concluded and how it is told. The findings are in `findings`."""
