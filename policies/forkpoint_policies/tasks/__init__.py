"""Tasks that the server, the clients and the tests share: the puzzles of the embedded model."""
