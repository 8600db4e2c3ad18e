"""Log-variance and log-determinant of representations by epoch, from the log of a run with `LatentEntropy`.

adlightning fit --config configs/deep_sad/digits.yaml --data.labelled_normal_ratio=0.2 --data.labelled_anomaly_ratio=0.2
    --data.pollution_ratio=0.1 --data.validation_fraction=0.2 --data.validation_anomalies=100 --model.encoder.rep_dim=16
    --trainer.callbacks+=LatentEntropy --run_dir runs/deep_sad_entropy
python benchmarks/latent_entropy.py runs/deep_sad_entropy docs/results/deep_sad_entropy.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd

from adlightning.callbacks.plots import titled_figure
from adlightning.checkpoints.loading import load_detector

STYLES = {
    "unlabelled": ("#8C8C8C", "-"),
    "known_normals": ("#0072B2", "-"),
    "known_anomalies": ("#E69F00", "-"),
    "held_out_normals": ("#0072B2", ":"),
    "held_out_anomalies": ("#CC3311", ":"),
}
QUANTITIES = {"log_variance": "log-variance (equation 6)", "log_determinant": "log det of the covariance (equation 5)"}


def main() -> None:
    """Read the log, and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="run folder")
    parser.add_argument("out", type=Path, help="the picture")
    options = parser.parse_args()
    logs = sorted((options.run / "logs").glob("*/metrics.csv"))
    frame = pd.concat(pd.read_csv(log) for log in logs)
    detector = load_detector(options.run)
    phase = detector.first_phase()
    with titled_figure(
        options.out, (10.0, 4.6), f"{type(detector).__name__}: entropy bounds of representations"
    ) as figure:
        for axes, (quantity, words) in zip(figure.subplots(1, 2), QUANTITIES.items(), strict=True):
            for group, (colour, line) in STYLES.items():
                if (name := f"latent/{group}/{quantity}") in frame:
                    shown = frame[frame[name].notna()]
                    label = group.replace("_", " ")
                    axes.plot(shown["epoch"], shown[name], color=colour, linestyle=line, linewidth=1.6, label=label)
            if phase is not None and phase.epochs:
                axes.axvline(phase.epochs - 0.5, color="black", linewidth=0.8)
            axes.set(xlabel="epoch (the line: pre-training ends)", ylabel=words)
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=5)


if __name__ == "__main__":
    main()
