"""Detectors as an experiment's configuration describes them."""

from __future__ import annotations

from typing import Any

from adlightning.cli import registry
from adlightning.cli.parser import AnomalyParser
from adlightning.cli.parsing import PARSER_MODE
from adlightning.core.detector import AnomalyDetector


def detector_of(model: dict[str, Any], **changed: Any) -> AnomalyDetector:
    """The detector of a configuration's `model`, with options as on the command line: `pretraining.epochs`."""
    registry.import_all()
    parser = AnomalyParser(parser_mode=PARSER_MODE, exit_on_error=False)
    parser.add_subclass_arguments(AnomalyDetector, "model")
    options = [f"--model.{name}={value}" for name, value in changed.items()]
    given = parser.parse_args(options, namespace=parser.parse_object({"model": model}))
    detector: AnomalyDetector = parser.instantiate(given).model
    return detector
