"""Images of good parts to train on, and of defects by kind to test on, with masks: MVTec AD's layout."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from adlightning.core.contracts import InputSpec
from adlightning.core.maps import enlarged
from adlightning.core.metrics import ScoredSamples
from adlightning.core.pixel_metrics import Map, PixelMetrics, PixelRanking
from adlightning.core.scoring import scoring
from adlightning.core.tiles import TileSpec, highest
from adlightning.data.composition import Split
from adlightning.data.modules import AnomalyDataModule
from adlightning.data.sources.base import Part, Samples, Source
from adlightning.data.sources.defect_folder import DefectFolder
from adlightning.data.sources.images import check_uniform
from adlightning.data.splits import given_parts
from adlightning.data.tiles import Tiles, tiles_of_files
from adlightning.labels import ANOMALY, KNOWN_ANOMALY

if TYPE_CHECKING:
    from adlightning.core.scored import ScoredModule

_MAPS = 50
"""Samples at most of which maps are made at once."""

_KEPT = 2**27
"""Values of maps that are kept from the first pass for the second one, 512 MiB; others are made again."""


class MVTecLayout(AnomalyDataModule):
    """Own images in MVTec AD's layout: `root/train/good`, `root/test/good`, a folder `root/test/<defect>` for each kind
    of defect, and masks in `root/ground_truth/<defect>`; see :class:`DefectFolder`.

    Fits MVTec AD, VisA after its split script, BTAD, and one's own. Each kind of defect has metrics of its own. With
    masks, detectors that say where an image is anomalous are measured by that, too.

    With `tile`, a sample is a tile of an image. Images may be of any size then that holds one. Scores, threshold,
    metrics and pictures are of images: an image's score is that of its highest tile, and its map is stitched.

    Args:
        root: the folder.
        resize: `[height, width]` or one side, in pixels; `auto` takes images of one size of at most 256 pixels a side
            as they are, and brings others to the median size, shrunk to 256; null takes images as they are, all of one
            size. With `tile` both take them as they are, of any size.
        channels: 1 or 3 converts every image; `auto` makes grey and colour ones colour; null, and `auto` with `tile`,
            takes them all alike.
        masks: false leaves `ground_truth` unread.
        tile: side of a tile in pixels, cut after `resize`; null takes whole images.
        overlap: pixels that neighbouring tiles share, in [0, tile); null takes an eighth of the tile.
        memory_budget_mb: parts up to this many MiB decoded are held in memory, larger ones are decoded by workers.
        batch_size: training samples a step, on each rank.
        validation_fraction: share of the training images held out, in [0, 1); sets the threshold, never the weights.
        loading: batch sizes, seed and memory, as in :class:`AnomalyDataModule`.

    Raises:
        ValueError: an argument outside its range, before any data are read.
    """

    def __init__(
        self,
        root: str,
        resize: tuple[int, int] | int | Literal["auto"] | None = "auto",
        channels: Literal[1, 3, "auto"] | None = "auto",
        masks: bool = True,
        tile: int | None = None,
        overlap: int | None = None,
        memory_budget_mb: int = 2048,
        batch_size: int = 32,
        validation_fraction: float = 0.1,
        **loading: Any,
    ) -> None:
        super().__init__(batch_size=batch_size, validation_fraction=validation_fraction, **loading)
        if tile is None and overlap is not None:
            raise ValueError(f"overlap is of tiles: give tile with it, got overlap={overlap} alone")
        self.source = DefectFolder(root, resize, channels, masks, memory_budget_mb)
        self.tiles = None if tile is None else TileSpec(tile, tile // 8 if overlap is None else overlap)
        self._cut: dict[Part, Tiles] = {}

    @property
    def data_source(self) -> Source:
        """The folder."""
        return self.source

    def sample_spec(self) -> InputSpec:
        """The one size of all images, or of a tile."""
        if self.tiles is None:
            return self.source.input_spec()
        files = [path for part in ("train", "test") for path in self.source.images(part).paths]
        source, size = self.source, self.tiles.size
        shape = (check_uniform(files, (size, size), source.channels)[0], size, size)  # of any size, but of one kind
        return InputSpec(
            "image",
            shape,
            source.name,
            resize=source.resize,
            channels=source.channels,
            tiles=self.tiles,
            reading=source.reading,
        )

    def make_split(self) -> tuple[Samples, Samples, Split, str]:
        """The folder's own parts; whole images are held out, whatever they are cut into."""
        source = self.source
        labels = {part: source.labels(part) for part in ("train", "test")}
        split = given_parts(
            labels["train"],
            labels["test"],
            validation_fraction=self.validation_fraction,
            seed=self.effective_seed(),
        )
        if self.tiles is None:
            train, test = source.load("train"), source.load("test")
            assert train is not None
            return train, test or train, split, source.name
        train = self._tiles_of("train", self.tiles)
        test = self._tiles_of("test", self.tiles) if len(labels["test"]) else train
        of_train, of_test = (self._cut.get(part, self._cut["train"]) for part in ("train", "test"))
        rows, held_out, tested = of_train.of(split.train), of_train.of(split.validation), of_test.of(split.test)
        known = np.repeat(split.known, of_train.counts[split.train])
        return train, test, Split(rows, known, held_out, train.y[held_out], tested, test.y[tested]), source.name

    def _tiles_of(self, part: Part, spec: TileSpec) -> Samples:
        """Tiles as samples, each with the label and name of its image."""
        cut = self._cut[part] = tiles_of_files(self.source.images(part), spec)
        names = self.source.names(part)
        x = cut.in_memory(self.source.memory_budget_mb)
        return Samples(x, self.source.labels(part)[cut.image], tuple(names[place] for place in cut.image))

    # ---- from tiles to images -------------------------------------------------------------------------------------

    def as_reported(self, scored: ScoredSamples, part: Part) -> ScoredSamples:
        """Of tiles the highest of each image, whose index is that tile's; of whole images all."""
        if self.tiles is None:
            return scored
        chosen = highest(scored.scores, self._cut[part].image[scored.index])
        return ScoredSamples(scored.scores[chosen], scored.labels[chosen], scored.index[chosen])

    def counts(self) -> dict[str, int]:
        """Sizes of the parts in images, for reports; and of tiles, how many are trained on."""
        counts = super().counts()
        if self.tiles is None:
            return counts
        images = self._cut["train"].image
        rows, known = self.training_rows()
        tested = self._cut["test"].image[self.split.test] if len(self.split.test) else self.split.test
        anomalous = tested[self.split.test_labels == ANOMALY]
        return {
            "train": len(np.unique(images[rows])),
            "train_known_anomalies": int((known == KNOWN_ANOMALY).sum()),
            "train_known_normals": len(np.unique(images[rows])),
            "validation": len(np.unique(images[self.split.validation])),
            "test": len(np.unique(tested)),
            "test_anomalies": len(np.unique(anomalous)),
            "train_tiles": counts["train"],
        }

    def sample_columns(self, test_name: str) -> Mapping[str, list[str]]:
        """The kind of defect, empty for good images; of tiles, where the one lies that scores highest."""
        kinds = self.defects
        if self.tiles is None:
            return {"defect": kinds}
        return {"defect": kinds, "tile": self._cut["test"].at()}

    @property
    def defects(self) -> list[str]:
        """The kind of defect of each test sample, empty for good ones."""
        kinds = self.source.defects("test")
        return kinds if self.tiles is None else [kinds[place] for place in self._cut["test"].image]

    # ---- where images are anomalous -------------------------------------------------------------------------------

    def locate(self, detector: ScoredModule, scored: ScoredSamples) -> PixelMetrics | None:
        """How well a detector's maps of test images fit the masks; None without maps, masks or normal pixels.

        A map is brought to the size of its mask, which is that of the image's file. Regions go by places of test
        samples, as `index` does.

        Args:
            detector: that is tested.
            scored: the test images, as they are reported.
        """
        if not (detector.gives_maps and self.source.has_masks):
            return None
        index = scored.index
        images = index if self.tiles is None else self._cut["test"].image[index]
        defective = scored.labels == ANOMALY
        ranking, kept, n_kept = PixelRanking(), dict[int, Map](), 0
        for row, values in zip(index[defective], self._maps(detector, images[defective]), strict=True):
            mask = self.source.mask(self._image(row))
            assert mask is not None
            ranking.add_defects(int(row), _at_size(values, mask.shape), mask)
            n_kept += values.size
            if n_kept <= _KEPT:
                kept[int(row)] = values
        again = np.array([row not in kept for row in index.tolist()], dtype=bool)
        made = self._maps(detector, images[again])
        for row in index.tolist():
            values = kept.pop(row) if row in kept else next(made)
            mask = self.source.mask(self._image(row))
            ranking.add_normals(values if mask is None else _at_size(values, mask.shape), mask)
        return ranking.result()

    def _image(self, index: int) -> int:
        """The place among the test images of a sample."""
        return index if self.tiles is None else int(self._cut["test"].image[index])

    def _maps(self, detector: ScoredModule, images: NDArray[np.int64]) -> Iterator[Map]:
        """Maps (H, W) of test images at these places, one after the other."""
        if self.tiles is None:
            return self._maps_of(detector, images)
        cut = self._cut["test"]
        chosen = Tiles(cut.images, [cut.sizes[i] for i in images], self.tiles)
        return chosen.maps(self._maps_of(detector, cut.of(images)))

    def _maps_of(self, detector: ScoredModule, rows: NDArray[np.int64]) -> Iterator[Map]:
        """Maps of test samples, made batch by batch."""
        x, step = self.test_samples.x, min(_MAPS, self.eval_batch_size)
        for first in range(0, len(rows), step):
            batch = torch.stack([x[int(row)] for row in rows[first : first + step]]).to(detector.device)
            with scoring(detector):
                maps = detector.anomaly_map(batch).float().cpu().numpy()
            yield from maps


def _at_size(values: Map, size: tuple[int, ...]) -> Map:
    """A map (h, w) at the size (H, W) of a mask."""
    large: Map = enlarged(torch.from_numpy(values)[None], (size[0], size[1]))[0].numpy()
    return large
