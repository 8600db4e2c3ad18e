"""One-class classification with limited negatives: close negatives, of no kind that training has, are in the test."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adlightning.core.contracts import InputSpec
from adlightning.data.composition import Split
from adlightning.data.joining import chosen, joined
from adlightning.data.modules import AnomalyDataModule
from adlightning.data.one_vs_all import ClassName, class_index
from adlightning.data.sources.base import ClassSource, LazyImages, Samples, Source
from adlightning.data.splits import limited_negatives

Masking = Literal["per_image", "joint"]


class CloseNegatives(ABC):
    """Anomalies that are much like normal samples. They are in the test part only."""

    name: str
    """In words, for the run's description: `normals with 50 % of pixels black`."""

    def prepare(self) -> None:
        """Download what is missing, when asked to. Called on one process only."""
        return

    @abstractmethod
    def make(self, normals: Samples, spec: InputSpec, seed: int) -> Samples:
        """Close negatives to go with these normal test samples, of the input that `spec` describes; `y` is not used."""


class MaskedNormals(CloseNegatives):
    """Normal test images with a share of their pixels set to raw 0, black: the "half zeros" of DROCC-LF.

    Goyal et al. (ICML 2020), Section 5.2.2. A pixel is masked in all its channels.

    Args:
        mask_ratio: share of the pixels that is masked, in (0, 1); 0.5 in the paper, 0.4 in its released code.
        masking: `per_image` masks round(mask_ratio x pixels) of each image; `joint` draws the pixels from all images
            together, as the released code does, so that images differ in how many they lose.

    Raises:
        ValueError: an argument outside its range.
    """

    def __init__(self, mask_ratio: float = 0.5, masking: Masking = "per_image") -> None:
        if not 0 < mask_ratio < 1:
            raise ValueError(f"mask_ratio must lie in (0, 1), got {mask_ratio}")
        if masking not in get_args(Masking):
            raise ValueError(f"masking must be one of {', '.join(get_args(Masking))}, got {masking!r}")
        self.mask_ratio = mask_ratio
        self.masking = masking
        self.name = f"normals with {100 * mask_ratio:g} % of pixels black"

    def make(self, normals: Samples, spec: InputSpec, seed: int) -> Samples:
        """A masked copy of every normal image; names stay. Raises ValueError for other kinds of input."""
        if spec.kind != "image":
            raise ValueError(f"close_negatives: MaskedNormals needs images, got {spec}")
        n, pixels = len(normals.y), spec.shape[1] * spec.shape[2]
        if self.masking == "per_image":
            counts = np.full(n, round(self.mask_ratio * pixels))
        else:  # drawing from all pixels together is drawing the counts so, and then each image's pixels
            n_masked = round(self.mask_ratio * pixels * n)
            rng = np.random.default_rng(seed)
            counts = rng.multivariate_hypergeometric(np.full(n, pixels), n_masked, method="marginals")
        masked = _Masked(normals.x, counts, seed)
        x: Tensor | LazyImages = masked
        if isinstance(normals.x, Tensor):
            x = torch.empty_like(normals.x)
            for i in range(n):
                x[i] = masked[i]
        return replace(normals, x=x)


class OtherSource(CloseNegatives):
    """All test samples of another source of the same input, of whatever class.

    Args:
        source: the class-labelled source, `Npz` or `ImageFolder` for your own.
    """

    def __init__(self, source: ClassSource) -> None:
        self.source = source
        self.name = source.name

    def prepare(self) -> None:
        """What the source prepares."""
        self.source.prepare()

    def make(self, normals: Samples, spec: InputSpec, seed: int) -> Samples:
        """The source's test part. Raises ValueError when its samples are of another kind or shape."""
        own = self.source.input_spec()
        if (own.kind, own.shape) != (spec.kind, spec.shape):
            raise ValueError(f"close_negatives must be of the same kind and shape as the source, {spec}, got {own}")
        return self.source.load("test")


class LimitedNegatives(AnomalyDataModule):
    """Known normals and known far negatives train; normals, far and close negatives of the test part are scored.

    DROCC-LF's setting (Goyal et al., ICML 2020, Section 4.1; docs/protocols.md). Names of close negatives in score
    tables begin with `close/`; all negatives are in one test set, as in the paper. Every draw depends on the seed only.

    Args:
        source: a class-labelled source: `MNIST`, `Npz`, `ImageFolder`, ...
        close_negatives: `MaskedNormals`, `OtherSource`.
        normal_class: name of the normal class, or its index where no name is a number, or a list of several.
        far_classes: classes of the far negatives, named in the same way, in training and test; null takes all others.
        n_train_normal: normals drawn from the training part, held-out ones included; null takes all.
        n_train_far: far negatives drawn from the training part, held-out ones included; null takes all.
        n_test_normal: normals drawn from the test part; null takes all.
        n_test_far: far negatives drawn from the test part; null takes all.
        n_test_close: close negatives drawn from those that there are; null takes all.
        validation_anomalies: number of the training part's far negatives held out with the normals, for
            `--monitor=val/auroc`. No close negative is ever among them.
        loading: batch sizes, validation share (of the normals), seed and memory, as in :class:`AnomalyDataModule`.

    Raises:
        ValueError: an argument outside its range; by the split, what the data cannot satisfy.
    """

    def __init__(
        self,
        source: ClassSource,
        close_negatives: CloseNegatives,
        normal_class: ClassName | list[ClassName] = 0,
        far_classes: list[ClassName] | None = None,
        n_train_normal: int | None = None,
        n_train_far: int | None = None,
        n_test_normal: int | None = None,
        n_test_far: int | None = None,
        n_test_close: int | None = None,
        validation_anomalies: int = 0,
        **loading: Any,
    ) -> None:
        super().__init__(**loading)
        self.source = source
        self.close_negatives = close_negatives
        self.normal_class = normal_class
        self.far_classes = far_classes
        self.n_train_normal = n_train_normal
        self.n_train_far = n_train_far
        self.n_test_normal = n_test_normal
        self.n_test_far = n_test_far
        self.n_test_close = n_test_close
        self.validation_anomalies = validation_anomalies

    @property
    def data_source(self) -> Source:
        """The class-labelled source of normals and far negatives."""
        return self.source

    def prepare_data(self) -> None:
        """Download what is missing, when asked to; on one process."""
        super().prepare_data()
        self.close_negatives.prepare()

    def make_split(self) -> tuple[Samples, Samples, Split, str]:
        """Training part; official test part followed by the close negatives; who is who in them."""
        train, test = self.source.load("train"), self.source.load("test")
        classes = self.source.classes
        given = self.normal_class if isinstance(self.normal_class, list) else [self.normal_class]
        normal = [class_index(name, classes, "normal_class") for name in given]
        far = [i for i in range(len(classes)) if i not in normal]
        if self.far_classes is not None:
            far = [class_index(name, classes, "far_classes") for name in self.far_classes]
        normals = chosen(test, np.flatnonzero(np.isin(test.y, normal)))
        close = self.close_negatives.make(normals, self.source.input_spec(), self.effective_seed())
        split = limited_negatives(
            train.y,
            test.y,
            normal,
            far,
            len(close.y),
            n_train_normal=self.n_train_normal,
            n_train_far=self.n_train_far,
            n_test_normal=self.n_test_normal,
            n_test_far=self.n_test_far,
            n_test_close=self.n_test_close,
            validation_fraction=self.validation_fraction,
            validation_anomalies=self.validation_anomalies,
            n_classes=len(classes),
            seed=self.effective_seed(),
        )
        self.n_official_test = len(test.y)
        words = f"normal class {', '.join(classes[i] for i in normal)}, far {', '.join(classes[i] for i in far)}"
        return (
            train,
            joined(test, close, "close/"),
            split,
            f"{self.source.name}, {words}, close {self.close_negatives.name}",
        )

    def counts(self) -> dict[str, int]:
        """Sizes of the parts, for reports; close negatives are among the test anomalies."""
        return super().counts() | {"test_close": int((self.split.test >= self.n_official_test).sum())}


class _Masked:
    """Images, of which the i-th loses `counts[i]` pixels to black; the same ones whenever it is asked for."""

    def __init__(self, images: Tensor | LazyImages, counts: NDArray[np.int64], seed: int) -> None:
        self.images, self.counts, self.seed = images, counts, seed

    def __len__(self) -> int:
        return len(self.counts)

    def __getitem__(self, index: int) -> Tensor:
        image = self.images[index].clone(memory_format=torch.contiguous_format)
        pixels = image.flatten(1)
        # [seed, 0] would be the generator of the counts, whose seed numpy fills up with zeros
        drawn = np.random.default_rng([self.seed, index + 1]).permutation(pixels.shape[1])[: self.counts[index]]
        pixels[:, torch.from_numpy(drawn)] = 0
        return image
