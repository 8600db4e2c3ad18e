"""The five papers' methods once more, from their formulas alone: NumPy and loops, in float64.

Nothing here imports adlightning or torch. `make.py` writes what they give for fixed weights, samples and draws to
`expected.json`; `tests/test_reference.py` holds the detectors to it.
"""
