"""One process of several, as torchrun starts them: several runs one after the other; what each rank ends with."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

from adlightning.cli.arguments import prepared
from adlightning.cli.trainer_verbs import run


def digests(runs: dict[str, list[str]]) -> dict[str, dict[str, str]]:
    """A digest of every weight and buffer at the end of each run, by its name; a run is a verb and its arguments."""
    ended = {}
    for name, (verb, *arguments) in runs.items():
        print(f"---- {name}", file=sys.stderr, flush=True)
        state = run(verb, prepared(verb, arguments)).model.state_dict()
        ended[name] = {key: hashlib.sha256(value.cpu().numpy().tobytes()).hexdigest() for key, value in state.items()}
    return ended


if __name__ == "__main__":
    plan, out = map(Path, sys.argv[1:])
    out.write_text(json.dumps(digests(json.loads(plan.read_text()))))
