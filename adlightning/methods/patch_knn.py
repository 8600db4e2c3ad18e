"""PatchCore: neighbours of patches (Roth et al., "Towards Total Recall in Industrial Anomaly Detection", 2022)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any, ClassVar, Literal

import torch
from pytorch_lightning.utilities import rank_zero_info
from torch import Tensor, nn

from adlightning.core.contracts import InputSpec
from adlightning.core.fitted_once import FittedOnce
from adlightning.core.maps import Reduction, enlarged
from adlightning.core.parts import PreprocessingFactory, network_part
from adlightning.core.rules import between, positive
from adlightning.core.thresholds import NormalQuantile, ThresholdRule
from adlightning.labels import KNOWN_ANOMALY
from adlightning.networks.patches import RawPatches
from adlightning.preprocessing.images import resized

PatchFeatures = Callable[[tuple[int, ...]], nn.Module]
"""From the shape of a preprocessed image to a module from images (B, C, H, W) to features of patches (B, d, h, w)."""

_PROJECTED = 128
"""Dimensions in which the coreset is chosen: distances hardly change (Section 3.2; Johnson and Lindenstrauss)."""

_CROP = 16
"""Side at most of what is kept of an image for each patch, in pixels."""

_PAIRS = {"cpu": 2**20}
"""Distances held at once while scoring: as many as a CPU's cache has room for; elsewhere :data:`_MOST_PAIRS`."""

_MOST_PAIRS = 2**25

_GRAPH_PAIRS = 2**28
"""Distances of one image at most in an exported graph, which holds all of them at once: 1 GiB."""

Search = Literal["exact", "faiss"]


def nearest(patches: Tensor, bank: Tensor) -> tuple[Tensor, Tensor]:
    """Distance (N,) of patches (N, d) to the nearest of a bank (M, d), and which it is, (N,)."""
    index = torch.addmm(bank.square().sum(1), patches, bank.T, alpha=-2).argmin(dim=1)
    return (patches - bank[index]).norm(dim=1), index  # anew: a difference of large squares loses a small distance


def reweighted(distance: Tensor, patch: Tensor, neighbor: Tensor, bank: Tensor, n: int) -> Tensor:
    """Scores (B,) of images by their most distant patch (PatchCore, Equation 7).

    A patch whose nearest neighbour lies far from its own neighbours in the bank is rarer, and weighs more: the score is
    `(1 - softmax of the distances to the neighbours' n nearest, at the nearest one) * distance`.

    Args:
        distance: (B,) of the most distant patch of each image to its nearest neighbour.
        patch: (B, d), that patch.
        neighbor: (B,), the place of that neighbour in the bank.
        bank: (M, d).
        n: neighbours in the bank, the nearest one counted.
    """
    nearest_one = bank[neighbor]
    squares = torch.addmm(bank.square().sum(1), nearest_one, bank.T, alpha=-2)
    around = squares.topk(n, dim=1, largest=False).indices
    distances = (patch[:, None] - bank[around]).norm(dim=-1)
    return (1 - torch.exp(distance - distances.logsumexp(dim=1))) * distance


def greedy_coreset(patches: Tensor, n: int, generator: torch.Generator) -> Tensor:
    """Places (n,) of patches (N, d) so chosen that every patch lies near one (Algorithm 1): always the farthest next.

    Args:
        patches: all there are.
        n: how many are chosen, at most N.
        generator: of the projection, and of the first one.
    """
    dim = patches.shape[1]
    if dim > _PROJECTED:
        projection = torch.randn(dim, _PROJECTED, generator=generator).to(patches) / _PROJECTED**0.5
        patches = patches @ projection
    chosen = torch.empty(n, dtype=torch.long)
    chosen[0] = torch.randint(len(patches), (), generator=generator)
    squares = patches.square().sum(dim=1)
    left = torch.full_like(squares, torch.inf)
    for i in range(n - 1):
        last = chosen[i]
        left = torch.minimum(left, squares + squares[last] - 2 * (patches @ patches[last]))
        chosen[i + 1] = left.argmax()
    return chosen


class PatchKNN(FittedOnce):
    """PatchCore: an image is as anomalous as the patch that is least like any patch of normal images.

    Nothing is trained. A bank holds patches of the training images, and a map says how far each patch of an image is
    from its nearest one. For defects that are small, where the rest of the image is normal.

    Args:
        features: a class made for the shape of a preprocessed image: `RawPatches`, its values; `BackbonePatches`,
            activations of a torchvision network; or one's own, from (B, C, H, W) to (B, d, h, w).
        coreset: share of the patches that the bank keeps, in (0, 1], chosen so that all lie near one; 1 keeps all.
        max_patches: patches at most from which they are chosen, drawn at random where there are more. The bank takes
            4 bytes for each of their values.
        neighbors: by how many neighbours in the bank the score of an image is weighed, as in the paper; 1 for none.
        search: by what the nearest patch is found: `exact`, or `faiss`, which finds the same ones faster on a CPU, and
            is not installed by default.
        reduction: how a map becomes a score; null for the paper's, the most distant patch, weighed.
        preprocessing: as in :class:`AnomalyDetector`.
        threshold: as in :class:`AnomalyDetector`.

    Raises:
        ValueError: an argument outside its range, data that are no images, or faiss is not installed.
    """

    scoring_arguments: ClassVar = ("neighbors", "reduction", "search")
    sized_by_data: ClassVar = (*FittedOnce.sized_by_data, "bank", "crops")
    argument_rules: ClassVar = {"coreset": between(0, 1, "right"), "max_patches": positive, "neighbors": positive}
    bank: Tensor
    crops: Tensor
    """What of an image each patch of the bank is, to be shown: uint8 (M, C, side, side)."""

    def __init__(
        self,
        features: PatchFeatures = partial(RawPatches, size=8, stride=4),
        coreset: float = 0.1,
        max_patches: int = 50_000,
        neighbors: int = 9,
        search: Search = "exact",
        reduction: Reduction | None = None,
        preprocessing: PreprocessingFactory | None = None,
        threshold: ThresholdRule = NormalQuantile(quantile=0.95),
    ) -> None:
        super().__init__(preprocessing, threshold)
        self.make_features = network_part("features", features)
        self.coreset = coreset
        self.max_patches = max_patches
        self.neighbors = neighbors
        if search == "faiss" and find_spec("faiss") is None:
            raise ValueError("search must be exact, or faiss be installed: pip install 'adlightning[faiss]', got faiss")
        self.search = search
        self.reduction = reduction
        self._n_patches = 0

    # ---- construction ---------------------------------------------------------------------------------------------

    def configure_for(self, spec: InputSpec) -> None:
        """Refuse what is no image."""
        if spec.kind != "image":
            raise ValueError(f"PatchKNN takes images (C, H, W), of which it compares patches; the data are {spec}")
        super().configure_for(spec)

    def build(self, shape: tuple[int, ...]) -> None:
        """The features, and a bank that holds nothing yet."""
        super().build(shape)
        self.features = self.make_features(shape)
        with torch.no_grad():
            given = self.features(torch.zeros(1, *shape))
        if given.ndim != 4:
            raise ValueError(f"features must give patches (B, d, h, w), got {tuple(given.shape)} for one image")
        self.register_buffer("bank", torch.empty(0, given.shape[1]))
        channels, height, width = self.built_for.shape
        self.grid = (given.shape[2], given.shape[3])
        side = min(max(-(-height // self.grid[0]), -(-width // self.grid[1])), _CROP)
        self.register_buffer("crops", torch.empty(0, channels, side, side, dtype=torch.uint8))

    # ---- training -------------------------------------------------------------------------------------------------

    def forget_fit(self) -> None:
        """The bank is empty again."""
        self.bank, self.crops = self.bank[:0], self.crops[:0]

    def fit_to_normals(self) -> None:
        """Fill the bank with a coreset of the patches of normal images."""
        draw = torch.Generator().manual_seed(self._fit_seed)
        if self._fold is None:
            self._say_memory()
        patches, crops = self._candidates(draw)
        if self.coreset < 1:
            chosen = greedy_coreset(patches, max(1, round(self.coreset * len(patches))), draw)
            patches, crops = patches[chosen], crops[chosen]
        self.bank, self.crops = patches.to(self.device), crops.to(self.device)

    def _say_memory(self) -> None:
        """Say how much memory the bank takes, before it does."""
        images = int((self.data.split.known != KNOWN_ANOMALY).sum())
        n, each = images * self.grid[0] * self.grid[1], 4 * self.bank.shape[1] + self.crops.shape[1:].numel()
        kept = min(n, self.max_patches)
        mib = [count * each / 2**20 for count in (kept, kept * self.coreset)]
        of = f"{kept:,} of {n:,}" if kept < n else f"{n:,}"
        rank_zero_info(f"a bank chosen from {of} patches: {mib[0]:,.1f} MiB while it is chosen, {mib[1]:,.1f} MiB then")

    def _candidates(self, draw: torch.Generator) -> tuple[Tensor, Tensor]:
        """Patches (N, d) of normal images, at most `max_patches` of them, each as likely; and their crops."""
        order, n_patches = torch.empty(0), 0
        kept, crops = self.bank[:0].cpu(), self.crops[:0].cpu()
        for x in self.normal_data():
            patches = _rows(self.features(self.preprocess(x)).float()).cpu()
            kept, crops = torch.cat([kept, patches]), torch.cat([crops, self._cropped(x).cpu()])
            order = torch.cat([order, torch.rand(len(patches), generator=draw)])
            n_patches += len(patches)
            if len(kept) > self.max_patches:
                first = order.topk(self.max_patches, largest=False, sorted=False).indices.sort().values
                kept, crops, order = kept[first], crops[first], order[first]
        if self._fold is None:
            self._n_patches = n_patches
        return kept, crops

    def _cropped(self, x: Tensor) -> Tensor:
        """What of raw images (B, C, H, W) lies where each patch does, (B * h * w, C, side, side)."""
        side = self.crops.shape[2]
        fitting = resized(x, (self.grid[0] * side, self.grid[1] * side))
        return fitting.unfold(2, side, side).unfold(3, side, side).permute(0, 2, 3, 1, 4, 5).flatten(0, 2)

    def remarks(self) -> list[str]:
        """How large the bank is."""
        size = self.bank.numel() * self.bank.element_size() / 2**20
        of = f" of {self._n_patches:,} of normal images" if self._n_patches else ""
        held = "1 patch" if len(self.bank) == 1 else f"{len(self.bank):,} patches"
        return [f"the bank holds {held}{of}, {size:.1f} MiB"]

    # ---- scores ---------------------------------------------------------------------------------------------------

    @property
    def score_needs(self) -> str | None:  # type: ignore[override]
        """Too much memory for an exported graph, where the bank is that large."""
        pairs = self.grid[0] * self.grid[1] * len(self.bank) if self.input_spec is not None else 0
        if pairs <= _GRAPH_PAIRS:
            return None
        return f"{4 * pairs / 2**30:.1f} GiB of distances an image, more than 1 GiB (a smaller coreset)"

    def ready_to_score(self) -> bool:
        """Only with a bank, of which every patch can be shown."""
        return len(self.bank) == len(self.crops) > 0

    def anomaly_score(self, x: Tensor) -> Tensor:
        """The distance of the most distant patch (B,), weighed; or what the reduction makes of the map."""
        if self.reduction is not None:
            return self.reduction.reduce(self.anomaly_map(x))
        features = self.features(self.preprocess(x)).float()
        distances, neighbors = self._distances(features)
        distance, most = distances.max(dim=1)
        if (n := min(self.neighbors, len(self.bank))) < 2:
            return distance
        neighbor = neighbors.gather(1, most[:, None])[:, 0]
        patch = features.flatten(2).gather(2, most[:, None, None].expand(-1, features.shape[1], 1))[:, :, 0]
        return reweighted(distance, patch, neighbor, self.bank, n)

    def anomaly_map(self, x: Tensor) -> Tensor:
        """Distances of patches to their nearest in the bank (B, H, W), at the size of raw images."""
        features = self.features(self.preprocess(x)).float()
        distance, _ = self._distances(features)
        return enlarged(distance.view(x.shape[0], *features.shape[2:]), (x.shape[2], x.shape[3]))

    def nearest_normal(self, x: Tensor) -> Tensor:
        """Raw images put together of the nearest patches of the bank, (B, C, h, w) in the preprocessed range."""
        _, neighbors = self._distances(self.features(self.preprocess(x)).float())
        side, (height, width) = self.crops.shape[2], self.grid
        tiles = self.crops[neighbors].view(x.shape[0], height, width, x.shape[1], side, side)
        together = tiles.permute(0, 3, 1, 4, 2, 5).reshape(x.shape[0], x.shape[1], height * side, width * side)
        prepared: Tensor = self.preprocess(resized(together, (x.shape[2], x.shape[3])))
        return prepared

    def _distances(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Of patches (B, d, h, w) to their nearest, (B, h * w), and which it is."""
        rows = _rows(features)
        if torch.compiler.is_exporting():  # a graph has no loops
            distance, index = nearest(rows, self.bank)
        else:
            find = self._by_faiss() if self.search == "faiss" else nearest
            at_once = max(1, _PAIRS.get(self.device.type, _MOST_PAIRS) // len(self.bank))
            found = [find(some, self.bank) for some in rows.split(at_once)]
            distance, index = (torch.cat(column) for column in zip(*found, strict=True))
        shape = (features.shape[0], features.shape[2] * features.shape[3])
        return distance.view(shape), index.view(shape)

    def _by_faiss(self) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """:func:`nearest` by faiss, on the host."""
        index: Any = import_module("faiss").IndexFlatL2(self.bank.shape[1])
        index.add(self.bank.cpu().numpy())

        def find(patches: Tensor, bank: Tensor) -> tuple[Tensor, Tensor]:
            found = torch.from_numpy(index.search(patches.cpu().numpy(), 1)[1][:, 0]).to(bank.device)
            return (patches - bank[found]).norm(dim=1), found

        return find


def _rows(features: Tensor) -> Tensor:
    """Patches (B, d, h, w) as (B * h * w, d)."""
    return features.flatten(2).transpose(1, 2).flatten(0, 1)
