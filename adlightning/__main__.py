"""`python -m adlightning VERB ...`: dispatch to the verbs without importing what the chosen one does not need."""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Iterable, Sequence

import adlightning
from adlightning.cli.environment import settle
from adlightning.cli.imports import import_named
from adlightning.cli.short_help import FULL, short_help
from adlightning.core.memory import keep_freed_memory, lacks_memory, memory_is_full
from adlightning.core.messages import nearest, plain_message, printable
from adlightning.core.stopping import Stopped, stoppable
from adlightning.files.disk import NotWritten, disk_is_full, said_of_disk

VERBS = {
    "fit": "train a detector, then test it; leaves a run folder",
    "validate": "score the held-out training samples with a checkpoint",
    "test": "score the test sets with a checkpoint: metrics, scores, plots",
    "predict": "write the test sets' scores with a checkpoint, without looking at labels",
    "check": "look at your own table or folder once: all that must be decided before a fit",
    "score": "score your own images, table or .npz with a checkpoint",
    "compare": "train every suitable method on your own data, and rank them on one page",
    "explain": "say which columns, time steps or places of an image make the score of your own samples",
    "export": "write a detector as one ONNX or torch.export graph, from raw input to scores",
    "configs": "list the experiments, tables and sweeps that come with the package, or copy them",
    "benchmark": "run a paper's table as a grid of fits, and go on where it stopped",
    "sweep": "search a method's options by a validation metric, and go on where it stopped",
    "report": "show a table with ours beside the published numbers",
}

HELP = """usage: adlightning VERB [options]        (or: python -m adlightning VERB [options])

Deep anomaly detection: methods of five papers, one protocol.

verbs:
{verbs}

examples:
  adlightning fit --config deep_sad/digits --data.normal_class=3
  adlightning test --ckpt_path RUN
  adlightning check my.csv
  adlightning score --ckpt_path RUN --data my_images/ --out scores.csv
  adlightning score --import my_package.vit --ckpt_path RUN --data my_images/ --out scores.csv   (a part of your own)
  adlightning compare --data my.csv --label_column label --minutes 10
  adlightning explain --ckpt_path RUN --data new.csv --out why.csv --plots
  adlightning export --ckpt_path RUN --format onnx --out model.onnx
  adlightning benchmark --config benchmarks/deep_sad_table6 --only dataset=cardio --seeds 3
  adlightning report runs/benchmarks/deep_sad_table6
  adlightning sweep sweeps/deep_sad.yaml --trials 50 --jobs 2

more help:
  adlightning VERB --help                options of a verb
  adlightning fit --model.help DeepSAD   arguments of a method: {methods}
  adlightning fit --data.help OneVsAll   arguments of a datamodule: {datamodules}
  adlightning benchmark --list           the papers' tables: what can be run, what is done, what is missing
  adlightning --version"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; errors are one message on stderr.

    Returns 0 when it worked, 2 for bad input, 1 when training or a cell of a grid failed, memory or the disk was full;
    a SIGTERM ends with 143, Ctrl-C with 130.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        settle()
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    keep_freed_memory()
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads that spin starve each other on a busy machine
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_help())
        return 0
    if arguments[0] == "--version":
        print(f"adlightning {adlightning.__version__}")
        return 0
    verb, rest = arguments[0], arguments[1:]
    if verb not in VERBS:
        near = nearest(verb, VERBS)
        hint = f"; nearest: {', '.join(near)}" if near else ""
        print(f"error: there is no verb {printable(verb)!r}{hint}; verbs are {', '.join(VERBS)}", file=sys.stderr)
        return 2
    with stoppable():
        return _guarded(verb, rest)


def _help() -> str:
    """The verbs, and everything that the registry knows."""
    from adlightning.cli.registry import DATAMODULES, METHODS

    def listed(names: Iterable[str]) -> str:
        lines = textwrap.wrap(", ".join(names), 78, initial_indent=" " * len("arguments of a datamodule: "))
        return f"\n{' ' * 41}".join(line.strip() for line in lines)

    methods = sorted((name for method in METHODS for name in method.classes), key=str.lower)
    verbs = "\n".join(f"  {name:10}{text}" for name, text in VERBS.items())
    return HELP.format(verbs=verbs, methods=listed(methods), datamodules=listed(DATAMODULES))


def _run(verb: str, arguments: list[str]) -> int:
    """Each verb imports only what it needs: torch takes seconds."""
    if verb not in ("benchmark", "check", "compare", "configs", "report", "sweep"):
        arguments = import_named(arguments)
    if verb == "score":
        from adlightning.cli.score import run as run_score

        run_score(arguments)
    elif verb == "explain":
        from adlightning.cli.explain import run as run_explain

        run_explain(arguments)
    elif verb == "check":
        from adlightning.cli.check import run as run_check

        return run_check(arguments)
    elif verb == "export":
        from adlightning.cli.export import run as run_export

        run_export(arguments)
    elif verb == "benchmark":
        from adlightning.cli.benchmark import run as run_benchmark

        return run_benchmark(arguments)
    elif verb == "compare":
        from adlightning.cli.compare import run as run_compare

        return run_compare(arguments)
    elif verb == "sweep":
        from adlightning.cli.sweep import run as run_sweep

        return run_sweep(arguments)
    elif verb == "configs":
        from adlightning.cli.configs import run as run_configs

        run_configs(arguments)
    elif verb == "report":
        from adlightning.cli.report import run as run_report

        run_report(arguments)
    elif (text := short_help(verb, arguments)) is not None:
        print(text)
    else:
        from adlightning.cli.arguments import prepared

        given = ["--help" if argument == FULL else argument for argument in arguments]
        arguments = prepared(verb, given)
        if verb == "fit":
            from adlightning.cli.before_fit import undecided

            if (text := undecided(given, arguments)) is not None:
                print(f"error: {text}", file=sys.stderr)
                return 2
        from adlightning.cli.trainer_verbs import run as run_trainer

        run_trainer(verb, arguments)
    return 0


def _guarded(verb: str, arguments: list[str]) -> int:
    """Bad input and failed training end in a message, not a traceback; ADLIGHTNING_TRACEBACK=1 shows where it was."""
    if os.environ.get("ADLIGHTNING_TRACEBACK"):
        return _run(verb, arguments)
    code = _code(verb, arguments)
    try:
        sys.stdout.flush()  # else what cannot be printed is python's own complaint when it ends
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not code and not isinstance(error, BrokenPipeError):  # one message; and who reads it may have enough
            print(f"error: what is printed cannot be written: {error.strerror}", file=sys.stderr)
        return code or 1
    return code


def _code(verb: str, arguments: list[str]) -> int:
    try:
        return _run(verb, arguments)
    except Stopped as stopped:
        if stopped.note is not None:
            print(f"stopped by {stopped.signal}{stopped.note}", file=sys.stderr)
        return int(str(stopped.code))
    except BrokenPipeError:
        return 1
    except Exception as error:
        name = type(error).__name__  # by name: importing the classes would import torch
        if name in ("TrainingCollapse", "TrainingFault"):
            what = "training" if verb == "fit" else verb
            print(f"{what} failed: {error}", file=sys.stderr)
            return 1
        if lacks_memory(error):
            print(f"error: {memory_is_full(error)}; what is on disk is whole", file=sys.stderr)
            return 1
        if isinstance(error, NotWritten) or disk_is_full(error):
            print(f"error: {plain_message(said_of_disk(error))}", file=sys.stderr)
            return 1
        if isinstance(error, Warning):
            print(
                f"error: {plain_message(str(error))} (PYTHONWARNINGS makes an error of this warning)", file=sys.stderr
            )
            return 2
        if not isinstance(error, (ValueError, OSError, ImportError)) and name != "MisconfigurationException":
            raise
        print(f"error: {plain_message(str(error))}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
