"""`fit --help` and the like: the options that most fits need, in groups; `--help=full` has all of them.

The full help takes seconds, since it imports every method. The texts here are words; a test compares their options with
those that there are.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

SHORT, FULL = ("--help", "-h"), "--help=full"

_HEAD = {
    "fit": (
        "Train a detector, then test it; leaves a run folder.",
        "adlightning fit --config deep_sad/digits --data.normal_class=3",
    ),
    "validate": (
        "Score the held-out training samples with a trained detector.",
        "adlightning validate --ckpt_path RUN",
    ),
    "test": (
        "Score the test sets with a trained detector: metrics, scores, plots.",
        "adlightning test --ckpt_path RUN",
    ),
    "predict": (
        "Write the test sets' scores with a trained detector, without looking at labels.",
        "adlightning predict --ckpt_path RUN",
    ),
}

_WHAT = {
    "--config NAME": "an experiment, deep_sad/digits, or a file of options; several are laid over each other "
    "(`adlightning configs` lists those that come with the package)",
    "--model CLASS": "the method: DeepSAD, DROCC, KDE, ...; its arguments are --model.NAME "
    "(--model.help CLASS lists them)",
    "--data CLASS": "the data: OneVsAll, FolderData, TableData, ...; its arguments are --data.NAME "
    "(--data.help CLASS lists them)",
    "--ckpt_path RUN": "a run folder or .ckpt: what is scored; for fit what it goes on from, `last` with --run_dir",
    "--import MODULE": "a module of your own to import first, whose classes may then be named",
}

_RUN = {
    "--run_dir DIR": "the run's own folder, new or empty (default: runs/DATE-TIME)",
    "--seed_everything N": "of weights, splits and batches (default: 0)",
    "--monitor METRIC": "validation metric that selects the weights to test; by default the last epoch's are tested",
    "--plots false": "draw no plots",
    "--test_after_fit false": "train only",
    "--boundary_features": "two features of a table over which the decision boundary is drawn",
}

_TRAINER = {
    "--trainer.max_epochs N": "passes over the training samples",
    "--trainer.accelerator KIND": "cpu, gpu, mps, auto",
    "--trainer.devices N": "how many of them",
    "--trainer.precision P": "32-true, bf16-mixed, 16-mixed",
    "--trainer.logger CLASS": "WandbLogger, TensorBoardLogger, CSVLogger",
    "--trainer.callbacks+ CLASS": "EarlyStopping, CompileNetworks, EMAWeightAveraging, ...",
    "--trainer.fast_dev_run true": "try everything on one batch",
    "--trainer.enable_progress_bar false": "a line an epoch in place of a bar",
}

_USUAL = {
    "--data.source CLASS": "MNIST, Odds, AnomalyFile, ImageFolder, Npz, ... with --data.source.root and the like",
    "--data.normal_class C": "name or index of the normal class",
    "--data.batch_size N": "training samples a step",
    "--data.validation_fraction F": "share of the normals held out for the threshold",
    "--model.optimizer.lr LR": "learning rate",
    "--model.encoder CLASS": "LeNetEncoder, TorchvisionEncoder, TimmEncoder, or your own by its path",
    "--model.threshold CLASS": "NormalQuantile, FalsePositiveRate, FalseDiscoveryRate, Contamination, FixedThreshold",
}

_MORE = {
    "--print_config": "print the configuration and exit",
    "--help=full": "all options, of Lightning's Trainer too",
}


def short_help(verb: str, arguments: Sequence[str]) -> str | None:
    """The short help of one of the Trainer's verbs where it is asked for, else None."""
    if verb not in _HEAD or not any(argument in SHORT for argument in arguments):
        return None
    what, example = _HEAD[verb]
    groups: dict[str, Mapping[str, str]] = {"what is run": _WHAT, "the run": _RUN, "Lightning's Trainer": _TRAINER}
    groups |= {"most used of data and model": _USUAL} if verb == "fit" else {}
    lines = [f"usage: adlightning {verb} [options]", "", what, "", f"example: {example}"]
    for heading, options in (groups | {"more": _MORE}).items():
        lines += ["", f"{heading}:"]
        for option, text in options.items():
            lines += textwrap.wrap(text, 78, initial_indent=f"  {option:33} ", subsequent_indent=" " * 36)
    return "\n".join(lines)
