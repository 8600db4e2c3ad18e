"""One class of a labelled source is normal, all others are anomalies (Deep SAD, Section 4.2)."""

from __future__ import annotations

from typing import Any

import numpy as np

from adlightning.data.composition import Split
from adlightning.data.modules import AnomalyDataModule
from adlightning.data.sources.base import ClassSource, Samples, Source
from adlightning.data.splits import one_vs_all, with_tested
from adlightning.files.written_names import number

ClassName = str | int  # in this order: the parser of the command line makes the first of what is written


class OneVsAll(AnomalyDataModule):
    """One class (or several) of a labelled source is normal, all others anomalies; its official test part is scored.

    The protocol of Deep SAD, Section 4.2 (docs/protocols.md): all training images of the normal classes are unlabelled,
    but for those that `labelled_normal_ratio` makes known; counts of labelled samples m and of polluters solve
    gamma_l = m / (n + m), gamma_p = n_out / n.

    Args:
        source: a class-labelled source: `Digits`, `MNIST`, `FashionMNIST`, `CIFAR10`, `CIFAR100`, `SVHN`, `Npz`,
            `ImageFolder`.
        normal_class: name of the normal class, or its index where no name is a number, or a list of several.
        labelled_anomaly_ratio: gamma_l in [0, 1), share of labelled anomalies in the training set.
        labelled_classes: classes of the labelled anomalies, named in the same way.
        n_labelled_classes: k_l, number of classes drawn at random for them, where `labelled_classes` is empty.
        pollution_ratio: gamma_p in [0, 1), share of anomalies among the unlabelled training samples.
        validation_anomalies: number of training anomalies added to the validation set, for model selection; they are of
            the classes that are tested, and a checkpoint that they choose is `oracle-ood`.
        n_test: number of test samples drawn at random from the test part, as ADGAN's paper takes 5,000; null takes all.
        labelled_normal_ratio: in [0, 1), share of the training set that is known to be normal, drawn among its normals;
            with `labelled_anomaly_ratio` it makes up gamma_l.
        loading: batch sizes, validation share, seed and memory, as in :class:`AnomalyDataModule`.
    """

    def __init__(
        self,
        source: ClassSource,
        normal_class: ClassName | list[ClassName] = 0,
        labelled_anomaly_ratio: float = 0.0,
        labelled_classes: list[ClassName] | None = None,
        n_labelled_classes: int = 0,
        pollution_ratio: float = 0.0,
        validation_anomalies: int = 0,
        n_test: int | None = None,
        labelled_normal_ratio: float = 0.0,
        **loading: Any,
    ) -> None:
        super().__init__(**loading)
        if n_test is not None and n_test < 2:
            raise ValueError(f"n_test must be at least 2, or null for all, got {n_test}")
        self.source = source
        self.normal_class = normal_class
        self.labelled_anomaly_ratio = labelled_anomaly_ratio
        self.labelled_classes = labelled_classes or []
        self.n_labelled_classes = n_labelled_classes
        self.labelled_normal_ratio = labelled_normal_ratio
        self.pollution_ratio = pollution_ratio
        self.validation_anomalies = validation_anomalies
        self.validates_on_tested_kinds = validation_anomalies > 0
        self.n_test = n_test

    @property
    def data_source(self) -> Source:
        """The class-labelled source."""
        return self.source

    def make_split(self) -> tuple[Samples, Samples, Split, str]:
        """Training and official test part, split one against all."""
        train, test = self.source.load("train"), self.source.load("test")
        classes = self.normal_class if isinstance(self.normal_class, list) else [self.normal_class]
        normal = [class_index(name, self.source.classes, "normal_class") for name in classes]
        split = one_vs_all(
            train.y,
            test.y,
            normal_class=normal,
            labelled_anomaly_ratio=self.labelled_anomaly_ratio,
            labelled_classes=[class_index(c, self.source.classes, "labelled_classes") for c in self.labelled_classes],
            n_labelled_classes=self.n_labelled_classes,
            labelled_normal_ratio=self.labelled_normal_ratio,
            pollution_ratio=self.pollution_ratio,
            validation_fraction=self.validation_fraction,
            validation_anomalies=self.validation_anomalies,
            n_classes=len(self.source.classes),
            seed=self.effective_seed(),
        )
        if self.n_test is not None:
            split = with_tested(split, self.n_test, self.effective_seed())
        names = ", ".join(self.source.classes[i] for i in normal)
        return train, test, split, f"{self.source.name}, normal class {names}"


def class_index(name: ClassName, classes: tuple[str, ...], argument: str) -> int:
    """A class by its name, or by its index where no name is a number.

    Raises:
        ValueError: there is no such class; the message names the argument, the value and the classes there are.
    """
    if isinstance(name, bool) or not isinstance(name, (str, int, np.integer)):
        raise ValueError(f"{argument} must be names or indices of classes, got {name!r}: put a name into quotes")
    text = str(name)
    if text in classes:
        return classes.index(text)
    shown = ", ".join(classes[:30]) + (", ..." if len(classes) > 30 else "")
    numbers = [own for own in classes if number(own) is not None]
    if numbers:
        meant = [own for own in numbers if number(own) == number(text)]
        raise ValueError(
            f"{argument}: there is no class {name!r}; classes are {shown}. Their names are numbers, so an index is "
            f"none: write the name, {(meant or numbers)[0]!r}{', perhaps' if meant else ' for instance'}"
        )
    indices = [str(index) for index in range(len(classes))]
    if text in indices:
        return indices.index(text)
    raise ValueError(
        f"{argument}: there is no class {name!r}; classes are {shown} (or indices 0 to {len(classes) - 1})"
    )
