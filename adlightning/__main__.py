"""`python -m adlightning VERB ...`: dispatch to the verbs without importing what the chosen one does not need."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import adlightning
from adlightning.messages import plain_message

VERBS = {
    "fit": "train a detector, then test it; leaves a run folder",
    "validate": "score the held-out training samples with a checkpoint",
    "test": "score the test sets with a checkpoint: metrics, scores, plots",
    "predict": "write the test sets' scores with a checkpoint, without looking at labels",
    "score": "score your own images, table or .npz with a checkpoint",
}

HELP = """usage: adlightning VERB [options]        (or: python -m adlightning VERB [options])

Deep anomaly detection: methods of five papers, one protocol.

verbs:
{verbs}

examples:
  adlightning fit --config configs/deep_sad/digits.yaml --data.normal_class=3
  adlightning test --ckpt_path RUN
  adlightning score --ckpt_path RUN --data my_images/ --out scores.csv

more help:
  adlightning VERB --help                options of a verb
  adlightning fit --model.help DeepSAD   arguments of a method (Autoencoder, DeepSVDD, SoftBoundaryDeepSVDD, DeepSAD)
  adlightning fit --data.help OneVsAll   arguments of a datamodule (OneVsAll, AnomalyLabelled, FolderData, TableData)
  adlightning --version"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; 0 when it worked, 2 for bad input, 1 when training failed. Errors are one message on stderr."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(HELP.format(verbs="\n".join(f"  {name:10}{text}" for name, text in VERBS.items())))
        return 0
    if arguments[0] == "--version":
        print(f"adlightning {adlightning.__version__}")
        return 0
    verb, rest = arguments[0], arguments[1:]
    if verb not in VERBS:
        print(f"adlightning: there is no verb {verb!r}; verbs are {', '.join(VERBS)}", file=sys.stderr)
        return 2
    if verb == "score":
        from adlightning.score import run as run_score

        return _guarded(lambda: run_score(rest))
    from adlightning.cli import run as run_trainer

    return _guarded(lambda: run_trainer(verb, rest))


def _guarded(work: object) -> int:
    """Bad input and failed training end in a message, not a traceback; ADLIGHTNING_TRACEBACK=1 shows where it was."""
    assert callable(work)
    if os.environ.get("ADLIGHTNING_TRACEBACK"):
        work()
        return 0
    try:
        work()
    except Exception as error:
        name = type(error).__name__  # by name: importing the classes would import torch
        if name == "TrainingCollapse":
            print(f"training failed: {error}", file=sys.stderr)
            return 1
        if not isinstance(error, (ValueError, OSError)) and name != "MisconfigurationException":
            raise
        print(f"error: {plain_message(str(error))}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
