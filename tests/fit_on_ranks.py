"""One process of several, as torchrun starts them: several runs one after the other; what each rank ends with."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path

from pytorch_lightning.utilities import rank_zero_only

from adlightning.cli.arguments import prepared
from adlightning.cli.trainer_verbs import run


def one_rank(environment: dict[str, str], plan: Path, log: Path, out: Path) -> None:
    """Carry out a plan, which is verbs with their arguments by the runs' names; stdout and stderr go to `log`."""
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.environ.update(environment)
    rank_zero_only.rank = int(environment["RANK"])  # type: ignore[attr-defined]  # as its import does, before the fork
    out.write_text(json.dumps(_digests(json.loads(plan.read_text()))))


def _digests(runs: dict[str, list[str]]) -> dict[str, dict[str, str]]:
    """A digest of every weight and buffer at the end of each run, by its name."""
    ended = {}
    for name, (verb, *arguments) in runs.items():
        print(f"---- {name}", file=sys.stderr, flush=True)
        state = run(verb, prepared(verb, arguments)).model.state_dict()
        ended[name] = {key: hashlib.sha256(value.cpu().numpy().tobytes()).hexdigest() for key, value in state.items()}
    return ended
