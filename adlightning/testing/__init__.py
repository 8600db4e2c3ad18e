"""Checks that every detector passes, ours and yours, and small data to run them on (docs/adding_a_method.md)."""

from adlightning.testing.checks import CHECKS
from adlightning.testing.small_data import Blobs, Stripes, Waves, small_data
from adlightning.testing.suite import check_detector, parametrize_with_checks
from adlightning.testing.trial import Trial

__all__ = [
    "CHECKS",
    "Blobs",
    "Stripes",
    "Trial",
    "Waves",
    "check_detector",
    "parametrize_with_checks",
    "small_data",
]
