"""What libraries say that says nothing about a run."""

from __future__ import annotations

import logging
import warnings


def silence_noise() -> None:
    """Messages that say nothing about a run: advertisements, the libraries' own deprecations, what is meant so here."""
    logging.getLogger("pytorch_lightning.utilities.rank_zero").addFilter(
        lambda record: "Tip:" not in record.getMessage()
    )
    for message in (
        ".*args parameter is intended to run from within Python.*",
        ".*isinstance\\(treespec, LeafSpec\\).*",
        ".*is smaller than the logging interval.*",
        ".*does not have many workers.*",
        ".*callbacks used to create the checkpoint need to be provided.*",
    ):
        warnings.filterwarnings("ignore", message=message)
