"""What the commands do, apart from their options in `cli`: imported when one runs, as it takes seconds."""
