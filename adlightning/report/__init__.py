"""Results beside the published numbers: tables in a paper's own layout, significance tests, figures, one page."""
