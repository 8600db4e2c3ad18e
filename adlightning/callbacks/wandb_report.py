"""What Weights & Biases shows beside the curves: plots as images and scores as a table."""

from __future__ import annotations

import pytorch_lightning as pl
from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.utilities import rank_zero_only

from adlightning.callbacks.run_folder import RunFolder, score_frame
from adlightning.detector import AnomalyDetector


class WandbReport(pl.Callback):
    """Send the run folder's plots and scores to every W&B logger that the run has.

    Args:
        run_folder: wrote them.
    """

    def __init__(self, run_folder: RunFolder) -> None:
        self.run_folder = run_folder

    @rank_zero_only
    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Images under `plots/<name>`, a table for each test set under `scores/<name>`."""
        assert isinstance(pl_module, AnomalyDetector)
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                for path in self.run_folder.plots:
                    key = path.relative_to(self.run_folder.folder).with_suffix("").as_posix()
                    logger.log_image(key=key, images=[str(path)])
                for name, scored in pl_module.results.items():
                    frame = score_frame(scored, pl_module.data.sample_names(name), pl_module.threshold.item())
                    logger.log_table(key=f"scores/{name}", dataframe=frame.astype({"label": "float64"}))
