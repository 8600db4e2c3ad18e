"""The `export` verb: preprocessing, network and score of a detector as one graph, which runs without adlightning."""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from adlightning import __version__
from adlightning.cli.imports import add_import
from adlightning.cli.plain_parser import PlainParser
from adlightning.core.memory import lacks_memory
from adlightning.core.terminal import say
from adlightning.files.disk import require_new, user_path, write_new

if TYPE_CHECKING:
    from torch import Tensor
    from torch.export import ExportedProgram
    from torch.fx import Node

    from adlightning.core.contracts import InputSpec
    from adlightning.core.detector import AnomalyDetector

Format = Literal["torch", "onnx"]

SUFFIXES: dict[Format, str] = {"torch": ".pt2", "onnx": ".onnx"}
METADATA = "adlightning.json"
"""The extra file of a .pt2 that holds what an .onnx has in its metadata_props."""

ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
ONNX_LIMIT = 2**31 - 2**20  # bytes of weights: a protobuf file ends at 2 GiB
TOLERANCE = 1e-4  # of the largest score: rounding in another order stays far below it
_MISSING = 0.2  # share of missing values in random input, where a detector takes them
PROBES = (2, 1, 3)  # batch sizes: the graph is traced with the first


def export(ckpt_path: str, format: Format, out: str | None = None, with_map: bool = False) -> Path:
    """Write a detector's score as one graph, from raw input (B, ...) to scores (B,), float32, for batches of any size.

    Where normal samples were held out of training, conformal p-values (B,) are a second output. The graph is run on
    random input and compared with the detector before anything is written.

    Args:
        ckpt_path: a checkpoint, or a run folder (its best.ckpt, else its last.ckpt).
        format: `torch` for a .pt2 that `torch.export.load` reads, `onnx` for an .onnx with its weights inside.
        out: the file to write, which must not exist yet; None takes the checkpoint's name with another suffix.
        with_map: give `maps` (B, H, W) too, of where raw images are anomalous.

    Returns:
        The file.

    Raises:
        ValueError: an argument outside its range, a score that is no forward pass, a graph that cannot be made or
            scores otherwise, or packages that are missing.
    """
    from adlightning.checkpoints.loading import checkpoint_file, load_detector

    if format not in get_args(Format):
        raise ValueError(f"format must be one of {', '.join(get_args(Format))}, got {format!r}")
    target = user_path(out) if out is not None else checkpoint_file(ckpt_path).with_suffix(SUFFIXES[format])
    require_new(target)
    if format == "onnx" and (missing := [name for name in ONNX_PACKAGES if find_spec(name) is None]):
        raise ValueError(f"format: onnx needs {', '.join(missing)}: pip install 'adlightning[export]'")
    detector = load_detector(ckpt_path)
    if detector.score_needs is not None:
        raise ValueError(
            "ckpt_path must be of a detector whose score is a forward pass, to be exported; got "
            f"{type(detector).__name__}, whose score needs {detector.score_needs}"
        )
    if with_map and not detector.gives_maps:
        raise ValueError(f"with_map: {type(detector).__name__} does not say where an image is anomalous")
    described = describe(detector) | ({"maps": True} if with_map else {})
    program = trace(detector.requires_grad_(False), with_map)
    exported = as_onnx(program, described) if format == "onnx" else as_torch(program, described)
    deviation = largest_deviation(detector, exported.run)
    if not deviation <= TOLERANCE:  # also when it is NaN
        raise ValueError(
            f"format: the scores of the {format} graph must be those of {type(detector).__name__} to {TOLERANCE:g} of "
            f"the largest one, got a deviation of {deviation:.3g}"
        )
    write_new(target, exported.content)
    verdict = f"anomalies are above {described['threshold']:.6g}"
    say(f"input: {described['dtype']} {described['input']}; {verdict}")
    say(f"largest deviation from score on random input: {deviation:.1e} of the largest")
    say(f"{format}: {target}")
    return target


@dataclass(frozen=True)
class Exported:
    """A graph as the bytes of its file, and as a function from raw input (B, ...) to its outputs by name."""

    content: bytes
    run: Callable[[Tensor], dict[str, Tensor]]


def describe(detector: AnomalyDetector) -> dict[str, Any]:
    """What goes with the graph: class, version, threshold, input, and how files become it; plain values."""
    from adlightning.data.sources.images import how_decoded

    spec = detector.built_for
    described = {
        "adlightning": __version__,
        "class": type(detector).__name__,
        "input": str(spec),
        "kind": spec.kind,
        "dtype": spec.dtype,
        "shape": list(spec.shape),
        "threshold": detector.threshold.item(),
        "held_out": len(detector.held_out_scores) or None,
        "features": list(spec.features) or None,
        "windows": None if spec.windows is None else spec.windows.as_dict(),
        "columns": None if spec.columns is None else spec.columns.as_dict(),
        "tiles": None if spec.tiles is None else spec.tiles.as_dict(),
        "resize": None if spec.resize is None else list(spec.resize),
        "channels": spec.channels,
        "image_files": how_decoded(spec.shape, spec.resize, spec.reading) if spec.kind == "image" else None,
    }
    return {name: value for name, value in described.items() if value is not None}


def trace(detector: AnomalyDetector, with_map: bool = False) -> ExportedProgram:
    """The score as a graph from `x` (B, ...), B any number from 1 on, without the paths of the code that it came from.

    It gives `{"scores": (B,), "p_values": (B,), "maps": (B, H, W)}`, the second where there are any, the third with
    `with_map`.

    Raises:
        ValueError: the score does what no graph does, such as to branch by the values of its input.
    """
    import torch
    from torch import nn

    from adlightning.core.conformal import p_values_in_a_graph
    from adlightning.core.scoring import bounded

    class Scorer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.detector = detector

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            scores = bounded(self.detector.anomaly_score(x).float(), self.detector.preprocess.is_far(x))
            held_out = self.detector.held_out_scores
            p = {"p_values": p_values_in_a_graph(scores, held_out)} if len(held_out) else {}
            maps = {"maps": self.detector.anomaly_map(x).float()} if with_map else {}
            return {"scores": scores, **p, **maps}

    x = random_input(detector.built_for, PROBES[0])
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch's own making
            batch = torch.export.Dim("batch", min=1)
            program = torch.export.export(Scorer(), (x,), dynamic_shapes=({0: batch},))
    except Exception as error:  # torch raises a dozen types; all mean the same here
        if lacks_memory(error):
            raise
        first = next(iter(str(error).splitlines()), type(error).__name__)
        raise ValueError(f"ckpt_path: the score of {type(detector).__name__} cannot be traced: {first}") from error
    for node in _nodes(program):
        node.meta.pop("stack_trace", None)
    return program


def _nodes(program: ExportedProgram) -> Iterator[Node]:
    """All nodes of a graph, those of graphs within it included."""
    import torch

    for module in program.graph_module.modules():
        if isinstance(module, torch.fx.GraphModule):
            yield from module.graph.nodes


def as_torch(program: ExportedProgram, described: dict[str, Any]) -> Exported:
    """As the bytes of a .pt2, with its description in an extra file."""
    import torch

    file = io.BytesIO()
    torch.export.save(program, file, extra_files={METADATA: json.dumps(described)})
    file.seek(0)
    return Exported(file.getvalue(), torch.export.load(file).module())


def as_onnx(program: ExportedProgram, described: dict[str, Any]) -> Exported:
    """As ONNX, weights inside. Raises ValueError for operations that ONNX does not have and for more than 2 GB."""
    import torch
    from onnxruntime import InferenceSession, SessionOptions

    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            outputs = ["scores"] + ["p_values"] * ("held_out" in described) + ["maps"] * ("maps" in described)
            program = _with_resize_as_products(program)
            onnx_program = torch.onnx.export(
                program, dynamo=True, input_names=["x"], output_names=outputs, verbose=False
            )
    except torch.onnx.OnnxExporterError as error:
        first = next(iter(str(error.__cause__ or error).splitlines()), "")
        raise ValueError(f"format must be torch for a graph that ONNX cannot express, got onnx: {first}") from error
    assert onnx_program is not None
    model = onnx_program.model
    size = sum(value.const_value.nbytes for value in model.graph.initializers.values() if value.const_value is not None)
    if size > ONNX_LIMIT:
        raise ValueError(f"format must be torch for {size / 1e9:.2g} GB of weights, which no ONNX file holds, got onnx")
    model.metadata_props.update(
        {name: value if isinstance(value, str) else json.dumps(value) for name, value in described.items()}
    )
    content = onnx_program.model_proto.SerializeToString()
    options = SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = InferenceSession(content, options, providers=["CPUExecutionProvider"])

    def run(x: Tensor) -> dict[str, Tensor]:
        found = session.run(outputs, {"x": x.numpy()})
        return {name: torch.from_numpy(values) for name, values in zip(outputs, found, strict=True)}

    return Exported(content, run)


def _with_resize_as_products(program: ExportedProgram) -> ExportedProgram:
    """The graph with an antialiased resize as products of matrices: ONNX's own rounds grey levels to others."""
    import torch
    from torch.nn import functional as F

    resize = torch.ops.aten._upsample_bilinear2d_aa.vec
    weights: dict[tuple[int, int], Tensor] = {}
    for node in _nodes(program):
        if node.target is resize:
            image, size = node.args[:2]
            assert isinstance(image, torch.fx.Node)
            assert isinstance(size, (list, tuple))
            for n, k in zip(image.meta["val"].shape[-2:], size, strict=True):
                weights[n, k] = F.interpolate(torch.eye(n)[None, None], (k, n), mode="bilinear", antialias=True)[0, 0]
    if not weights:
        return program

    def products(x: Tensor, size: list[int], *_: Any) -> Tensor:
        rows, columns = (weights[pair] for pair in zip(x.shape[-2:], size, strict=True))
        return rows @ (x @ columns.T)

    changed: ExportedProgram = program.run_decompositions({resize: products})
    return changed


def random_input(spec: InputSpec, n: int) -> Tensor:
    """Raw samples (n, ...), always the same."""
    import torch

    draws = torch.Generator().manual_seed(n)
    if spec.kind == "image":
        return torch.randint(0, 256, (n, *spec.shape), dtype=torch.uint8, generator=draws)
    x = torch.randn(n, *spec.shape, generator=draws)
    if spec.columns is not None and spec.columns.fills:
        x[torch.rand(x.shape, generator=draws) < _MISSING] = torch.nan
    for i, names in enumerate(() if spec.columns is None else spec.columns.categories):
        if names:
            x[:, i] = torch.randint(-1, len(names), (n,), generator=draws).float()
    return x.double() + torch.tensor(spec.offsets, dtype=torch.float64).view(spec.shape) if spec.offsets else x


def largest_deviation(detector: AnomalyDetector, run: Callable[[Tensor], dict[str, Tensor]]) -> float:
    """Largest difference of a graph's scores, and maps, from the detector's, over the largest of each.

    Of random input, in batches of some sizes.
    """
    import torch

    wanted: dict[str, list[Tensor]] = {"scores": [], "maps": []}
    got: dict[str, list[Tensor]] = {"scores": [], "maps": []}
    with torch.no_grad():
        for n in PROBES:
            x = random_input(detector.built_for, n)
            found = run(x)
            for name, own in {"scores": detector.anomaly_score, "maps": detector.anomaly_map}.items():
                if name in found:
                    got[name].append(found[name])
                    wanted[name].append(own(x).float())
    return max(_deviation(torch.cat(wanted[name]), torch.cat(parts)) for name, parts in got.items() if parts)


def _deviation(wanted: Tensor, got: Tensor) -> float:
    import torch

    return float((got - wanted).abs().max() / wanted.abs().max().clamp_min(torch.finfo(torch.float32).tiny))


def run(arguments: Sequence[str]) -> None:
    """Parse the verb's arguments and export. Standard argparse: the help must not wait for torch."""
    parser = PlainParser(
        prog="adlightning export",
        description="Write a detector's score as one graph, from raw input to scores, that runs without adlightning.",
    )
    parser.add_argument("--ckpt_path", required=True, help="a checkpoint, or a run folder (best.ckpt, else last.ckpt)")
    parser.add_argument("--format", required=True, choices=get_args(Format), help="torch: a .pt2; onnx: an .onnx")
    parser.add_argument("--out", help="the file to write; must not exist yet; else beside the checkpoint, by its name")
    parser.add_argument(
        "--with_map", action="store_true", help="give maps (B, H, W) too, of where an image is anomalous"
    )
    add_import(parser)
    export(**vars(parser.parse_args(arguments)))
