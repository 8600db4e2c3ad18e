"""Out-of-distribution detection: one source is normal, and every other source is a test set of anomalies of its own."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from adlightning.core.contracts import InputSpec
from adlightning.data.composition import ROUNDING, Indices, Split
from adlightning.data.grouping import grouped
from adlightning.data.joining import chosen, in_memory, joined, matched
from adlightning.data.modules import AnomalyDataModule
from adlightning.data.one_vs_all import ClassName, class_index
from adlightning.data.sources.base import ClassSource, Samples, Source
from adlightning.data.sources.noise import Noise
from adlightning.data.splits import drawn_anomalies, normals_only
from adlightning.labels import ANOMALY, NORMAL

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,99}")


class OutOfDistribution(AnomalyDataModule):
    """A whole source is normal, others are anomalies: one test set and one result row for each of them.

    The setting of AMA, Table 1 (Somepalli et al., 2020; docs/protocols.md). All training images are unlabelled normals;
    each test set has the normal test images and images of the test part of one anomaly source, whatever their classes,
    which are resized and converted to the normal images' size and channels. Every draw depends on the seed only, and
    none on which other anomaly sources there are.

    Args:
        source: a class-labelled source of images: `FashionMNIST`, `CIFAR10`, `SVHN`, `ImageFolder`, `Npz`, ...
        anomaly_sources: sources of anomalies by the name of their test set: `{mnist: MNIST, mine: {class_path:
            FlatFolder, init_args: {root: my_images}}}`; also `Omniglot`, `GTSRB`, `CelebA`, `LSUN`, `UniformNoise`,
            `GaussianNoise`.
        normal_class: name of a normal class, or its index where no name is a number, or a list of several, whose other
            classes are then not used; null takes all.
        anomaly_ratio: number of anomalies in each test set, as a share of its normal images, rounded down and drawn
            without replacement; null takes all.
        validation_anomalies: number of images of `validation_source` that validation gets and the test does not, for
            `--monitor=val/auroc`. Results chosen so say `selection: oracle-ood`. AMA has about 50.
        validation_source: name of the anomaly source that they come from; needed where there are several.
        batch_of: images of a sample. More than 1: so many of one kind, drawn at random, are stacked one above the other
            in training, validation and test; a score, a label and a row of scores.csv are those of all of them.
        loading: batch sizes, validation share (of the normals), seed and memory, as in :class:`AnomalyDataModule`.

    Raises:
        ValueError: an argument outside its range; by the split, too few images of a source, or something else than
            images.
    """

    def __init__(
        self,
        source: ClassSource,
        anomaly_sources: dict[str, ClassSource],
        normal_class: ClassName | list[ClassName] | None = None,
        anomaly_ratio: float | None = 0.2,
        validation_anomalies: int = 0,
        validation_source: str | None = None,
        batch_of: int = 1,
        **loading: Any,
    ) -> None:
        super().__init__(**loading)
        if not anomaly_sources:
            raise ValueError("anomaly_sources must name at least one source of anomalies, got none")
        if wrong := [name for name in anomaly_sources if not _NAME.fullmatch(str(name))]:
            raise ValueError(
                "anomaly_sources: names must be of letters, digits and any of _.+-, 100 at most, since rows and "
                f"folders are named by them, got {wrong[0]!r}"
            )
        if anomaly_ratio is not None and not 0 < anomaly_ratio < float("inf"):
            raise ValueError(f"anomaly_ratio must be positive, or null for all, got {anomaly_ratio}")
        if validation_anomalies < 0:
            raise ValueError(f"validation_anomalies must not be negative, got {validation_anomalies}")
        if batch_of < 1:
            raise ValueError(f"batch_of must be at least 1, got {batch_of}")
        names = ", ".join(anomaly_sources)
        if validation_source is not None and validation_source not in anomaly_sources:
            raise ValueError(f"validation_source must be one of anomaly_sources, {names}, got {validation_source!r}")
        if validation_anomalies and validation_source is None and len(anomaly_sources) > 1:
            raise ValueError(f"validation_source must say where validation_anomalies come from: one of {names}")
        self.source = source
        self.anomaly_sources = dict(sorted(anomaly_sources.items()))  # options of the command line change their order
        self.normal_class = normal_class
        self.anomaly_ratio = anomaly_ratio
        self.validation_anomalies = validation_anomalies
        self.validation_source = validation_source
        self.batch_of = batch_of
        self.validates_on_tested_kinds = validation_anomalies > 0

    @property
    def data_source(self) -> Source:
        """The source of normal images."""
        return self.source

    def sample_spec(self) -> InputSpec:
        """An image of the source, or `batch_of` of them one above the other."""
        spec = super().sample_spec()
        return replace(spec, shape=(spec.shape[0], self.batch_of * spec.shape[1], *spec.shape[2:]))

    def prepare_data(self) -> None:
        """Download what is missing, when asked to; on one process."""
        super().prepare_data()
        for source in self.anomaly_sources.values():
            source.prepare()

    @property
    def test_sets(self) -> dict[str, NDArray[np.int64]]:
        """The normal test images with the anomalies of each source; rows of the test part."""
        normal = self.split.test[self.split.test_labels != ANOMALY]
        return {name: np.concatenate([normal, rows]) for name, rows in self._anomalies.items()}

    @property
    def tests_on_training_part(self) -> bool:
        """Whether validation took images of what is tested, so that the split must be the same."""
        return self.validation_anomalies > 0

    def split_fingerprint(self) -> str:
        """A digest of who trains and who is held out, anomalies by their names."""
        names = (self.train_samples.names[row] for row in self.split.validation)
        return hashlib.sha256("\n".join([super().split_fingerprint(), *names]).encode()).hexdigest()

    def make_split(self) -> tuple[Samples, Samples, Split, str]:
        """Both parts of the source, validation anomalies after the training part, test anomalies after the test part.

        Names of anomalies begin with their source's name and a slash.
        """
        train, test = self.source.load("train"), self.source.load("test")
        spec = self.source.input_spec()
        if spec.kind != "image":
            raise ValueError(f"source must hold images, got {spec}")
        split, words = self._normals(train, test)
        n_test = None
        if self.anomaly_ratio is not None:
            n_test = int(self.anomaly_ratio * len(split.test) + ROUNDING)
            if n_test < 1:
                raise ValueError(
                    f"anomaly_ratio must amount to at least one anomaly, got {self.anomaly_ratio} of {len(split.test)} "
                    "normal test images"
                )
        self._anomalies: dict[str, Indices] = {}
        validating = self.validation_source or next(iter(self.anomaly_sources))
        for name, source in self.anomaly_sources.items():
            n_validation = self.validation_anomalies if name == validating else 0
            anomalies = self._all_of(name, source, spec)
            tested, held_out = self._drawn(name, anomalies, n_test, n_validation)
            self._anomalies[name] = len(test.y) + np.arange(len(tested))
            test = self._with_anomalies(test, name, anomalies, tested, spec)
            if n_validation:
                rows = len(train.y) + np.arange(n_validation)
                train = self._with_anomalies(train, name, anomalies, held_out, spec)
                split = replace(
                    split,
                    validation=np.concatenate([split.validation, rows]),
                    validation_labels=np.concatenate([split.validation_labels, np.full(n_validation, ANOMALY)]),
                )
        rows = np.concatenate(list(self._anomalies.values()))
        split = replace(
            split,
            test=np.concatenate([split.test, rows]),
            test_labels=np.concatenate([split.test_labels, np.full(len(rows), ANOMALY)]),
        )
        return (train, test, split, words) if self.batch_of == 1 else self._grouped(train, test, split, words)

    def _grouped(self, train: Samples, test: Samples, split: Split, words: str) -> tuple[Samples, Samples, Split, str]:
        """The same with groups of images as samples, each of normals or of one source's anomalies."""
        size, seed = self.batch_of, self.effective_seed()
        held_out = [split.validation[(split.validation_labels == ANOMALY) == anomalous] for anomalous in (False, True)]
        train, (training, *held_out) = grouped(train, [split.train, *held_out], size, seed)
        tested = [split.test[split.test_labels != ANOMALY], *self._anomalies.values()]
        test, rows = grouped(test, tested, size, seed)
        self._anomalies = dict(zip(self._anomalies, rows[1:], strict=True))
        labels = [np.repeat([NORMAL, ANOMALY], [len(of[0]), sum(map(len, of[1:]))]) for of in (held_out, rows)]
        split = Split(
            train=training,
            known=np.zeros_like(training),
            validation=np.concatenate(held_out),
            validation_labels=labels[0],
            test=np.concatenate(rows),
            test_labels=labels[1],
        )
        return train, test, split, f"{words}, samples of {size} images of one kind"

    def _normals(self, train: Samples, test: Samples) -> tuple[Split, str]:
        """The split of the normal images, and the source in words."""
        classes, normal = self.source.classes, None
        if self.normal_class is not None:
            given = self.normal_class if isinstance(self.normal_class, list) else [self.normal_class]
            normal = [class_index(name, classes, "normal_class") for name in given]
        split = normals_only(
            train.y,
            test.y,
            normal,
            validation_fraction=self.validation_fraction,
            n_classes=len(classes),
            seed=self.effective_seed(),
        )
        if normal is None:
            return split, self.source.name
        return split, f"{self.source.name}, normal class {', '.join(classes[i] for i in normal)}"

    def _all_of(self, name: str, source: ClassSource, spec: InputSpec) -> Samples:
        """All images of an anomaly source that may be drawn."""
        if isinstance(source, Noise):
            source = source.of_shape((spec.shape[0], spec.shape[1], spec.shape[2]))
        own = source.input_spec()
        if own.kind != "image":
            raise ValueError(f"anomaly_sources: {name} must hold images, got {own}")
        return source.load("test")

    def _drawn(self, name: str, anomalies: Samples, n_test: int | None, n_validation: int) -> tuple[Indices, Indices]:
        """Rows of the test and of the validation anomalies."""
        try:
            return drawn_anomalies(len(anomalies.y), n_test, n_validation, self.effective_seed())
        except ValueError as error:
            asked = f"anomaly_ratio={self.anomaly_ratio} and validation_anomalies={n_validation}"
            raise ValueError(f"{asked} ask for more than {name} has: {error}") from None

    def _with_anomalies(self, part: Samples, name: str, anomalies: Samples, rows: Indices, spec: InputSpec) -> Samples:
        """A part followed by these anomalies, made like its images, and decoded where those are."""
        try:
            alike = matched(chosen(anomalies, rows), spec.shape)
        except ValueError as error:
            raise ValueError(f"anomaly_sources: {name} does not go with {spec}: {error}") from None
        return joined(part, in_memory(alike) if isinstance(part.x, Tensor) else alike, f"{name}/")
