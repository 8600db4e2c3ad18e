"""A table of a paper: grid, runs, rows, report."""
