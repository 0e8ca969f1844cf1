"""Exporting a model folder's transformer to an ONNX graph that shares the folder's weights.

``torch.onnx.export(dynamo=True)`` traces the transformer (token ids in, token vectors out; it is
exact at every shape, where the older TorchScript exporter was not). Every large constant of the
graph is then found again in ``model.safetensors``, as it stands or transposed, and replaced by a
reference to those bytes (ONNX external data: a safetensors file is a header and raw tensors). So
the folder holds its weights once, in the dtype they were saved in; onnxruntime widens fp16 to
fp32 and transposes once, on loading. Given up: a graph that works without the file beside it.

Specification: https://onnx.ai/onnx/repo-docs/ExternalData.html,
https://github.com/huggingface/safetensors#format.
"""

from __future__ import annotations

import hashlib
import json
import logging
import struct
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
import transformers
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from safetensors import SafetensorError
from safetensors.numpy import load_file
from safetensors.torch import save_file
from sentence_transformers import SentenceTransformer

from modernpubmed.encoder.folder import GRAPH_NAME, WEIGHTS_NAME
from modernpubmed.encoder.graph import WEIGHTS_KEY
from modernpubmed.errors import ModernPubMedError
from modernpubmed.manifest import replacing, sha256

_ONNX_TYPES = {"F32": TensorProto.FLOAT, "F16": TensorProto.FLOAT16}
#: Constants below this many numbers stay in the graph: they cost less than a reference.
_SMALL = 256


@dataclass(frozen=True, slots=True)
class _Stored:
    """Where a tensor lies in ``model.safetensors``."""

    name: str
    onnx_type: int
    shape: tuple[int, ...]
    offset: int
    length: int


def export(folder: Path, *, half: bool = False) -> Path:
    """Writes ``model.onnx`` into a sentence-transformers folder.

    Args:
        folder: The model folder, with one ``model.safetensors`` in fp32 or fp16.
        half: Round the folder's weights to fp16 first, which halves it (computing stays fp32).

    Returns:
        The path of the graph.

    Raises:
        ModernPubMedError: The folder cannot be loaded, its weights are sharded or in another
            dtype, or the graph's output differs from the model's (nothing is written then).
    """
    weights = folder / WEIGHTS_NAME
    if not weights.is_file():
        raise ModernPubMedError(
            "no weights to export", file=weights, remedy="give a folder with model.safetensors"
        )
    if half:
        halve_weights(folder)
    model = _load(folder)
    program = _trace(model)
    graph = _share_weights(program, weights)
    helper.set_model_props(graph, {WEIGHTS_KEY: sha256(weights)})
    target = folder / GRAPH_NAME
    with replacing(target) as temporary:
        temporary.write_bytes(graph.SerializeToString())
    try:
        check(folder, model)
    except BaseException:
        target.unlink()
        raise
    return target


def halve_weights(folder: Path) -> None:
    """Rounds ``model.safetensors`` to fp16, and keeps ``config.json`` saying to compute in fp32.

    Raises:
        ModernPubMedError: The file is broken, or a weight is beyond fp16's range (65,504).
    """
    weights = folder / WEIGHTS_NAME
    tensors = _tensors(weights)
    halved: dict[str, torch.Tensor] = {}
    for name, tensor in tensors.items():
        with np.errstate(over="ignore"):
            rounded = tensor.astype(np.float16) if tensor.dtype == np.float32 else tensor
        if not np.isfinite(rounded).all():
            raise ModernPubMedError(
                "a weight is not finite in fp16", file=weights, record=name, remedy="keep fp32"
            )
        halved[name] = torch.from_numpy(rounded)
    with replacing(weights) as temporary:
        save_file(halved, temporary, metadata={"format": "pt"})
        temporary.chmod(0o644)
    config = folder / "config.json"
    values = json.loads(config.read_text())
    values["dtype"] = "float32"
    config.write_text(json.dumps(values, indent=2) + "\n")


def check(folder: Path, model: SentenceTransformer) -> None:
    """Compares graph and model on texts of mixed length.

    Raises:
        ModernPubMedError: A cosine is below 0.9999.
    """
    from modernpubmed.encoder.encoder import Encoder

    texts = ["", "fever", "Acute kidney injury after cardiac surgery.", "a long text " * 30]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a short model cuts the long text, both ways alike
        ours = Encoder.load(folder).encode(texts)
    theirs = model.encode(texts, normalize_embeddings=True, show_progress_bar=False)
    worst = float((ours * theirs).sum(axis=1).min())
    if not worst >= 0.9999:
        raise ModernPubMedError(
            f"the exported graph differs from the model (cosine {worst:.6f})",
            file=folder,
            remedy="report it with the model's name; the folder still works with torch",
        )


def _load(folder: Path) -> SentenceTransformer:
    transformers.logging.disable_progress_bar()
    try:
        # The plain attention exports to plain matrix products, which onnxruntime fuses itself.
        return SentenceTransformer(
            str(folder),
            device="cpu",
            model_kwargs={"dtype": torch.float32, "attn_implementation": "eager"},
        ).eval()
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ModernPubMedError(
            f"sentence-transformers cannot load it ({str(error).splitlines()[0]})",
            file=folder,
            remedy="give a sentence-transformers folder",
        ) from error


class _Tokens(torch.nn.Module):
    """The transformer as a function of two tensors."""

    def __init__(self, transformer: torch.nn.Module) -> None:
        super().__init__()
        self.transformer = transformer

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.transformer(
            input_ids=input_ids, attention_mask=attention_mask
        ).last_hidden_state
        return output


def _trace(model: SentenceTransformer) -> onnx.ModelProto:
    ids = torch.randint(5, 100, (3, 17))
    mask = torch.ones_like(ids)
    mask[1, 9:] = 0
    sizes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("tokens", max=4096)}
    exporter = logging.getLogger("torch.onnx")
    level = exporter.level
    try:
        # The exporter's remarks on axis names and absent torchvision are of no use to anyone here.
        exporter.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                _Tokens(model[0].model).eval(),
                (ids, mask),
                input_names=["input_ids", "attention_mask"],
                output_names=["last_hidden_state"],
                dynamic_shapes=(sizes, sizes),
                dynamo=True,
                verbose=False,
            )
    finally:
        exporter.setLevel(level)
    if program is None:
        raise ModernPubMedError("torch gave no graph", remedy="install a current torch")
    graph: onnx.ModelProto = program.model_proto
    for node in graph.graph.node:
        # Each node names the line of Python it came from, with this machine's paths.
        del node.metadata_props[:]
        node.doc_string = ""
    return graph


def _share_weights(model: onnx.ModelProto, weights: Path) -> onnx.ModelProto:
    stored = _layout(weights)
    tensors = _tensors(weights)
    by_content: dict[bytes, tuple[_Stored, bool]] = {}
    for name, tensor in tensors.items():
        if tensor.ndim == 2:
            by_content[_digest(tensor.T)] = (stored[name], True)
    for name, tensor in tensors.items():
        by_content[_digest(tensor)] = (stored[name], False)
    kept: list[TensorProto] = []
    widened: list[onnx.NodeProto] = []
    shared: set[str] = set()
    for initializer in model.graph.initializer:
        values = numpy_helper.to_array(initializer)
        found = by_content.get(_digest(values)) if values.size >= _SMALL else None
        if found is None:
            kept.append(initializer)
            continue
        place, transposed = found
        source = f"stored.{place.name}"
        if source not in shared:
            shared.add(source)
            kept.append(_reference(source, place))
        widened.extend(_restore(source, initializer.name, transposed=transposed))
    nodes = [*widened, *model.graph.node]
    del model.graph.initializer[:], model.graph.node[:], model.graph.value_info[:]
    model.graph.initializer.extend(kept)
    model.graph.node.extend(nodes)
    return model


def _reference(name: str, place: _Stored) -> TensorProto:
    tensor = TensorProto(
        name=name,
        data_type=place.onnx_type,
        dims=place.shape,
        data_location=TensorProto.EXTERNAL,
    )
    entries = {"location": WEIGHTS_NAME, "offset": place.offset, "length": place.length}
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=str(value))
    return tensor


def _restore(source: str, target: str, *, transposed: bool) -> list[onnx.NodeProto]:
    """Nodes that make the graph's constant of the stored one; onnxruntime folds them on loading."""
    wide = f"{target}.wide" if transposed else target
    nodes = [helper.make_node("Cast", [source], [wide], to=TensorProto.FLOAT)]
    if transposed:
        nodes.append(helper.make_node("Transpose", [wide], [target], perm=[1, 0]))
    return nodes


def _layout(weights: Path) -> Mapping[str, _Stored]:
    """Reads the safetensors header: eight bytes of length, then JSON, then the tensors."""
    with weights.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header: dict[str, Any] = json.loads(file.read(length))
    header.pop("__metadata__", None)
    layout: dict[str, _Stored] = {}
    for name, entry in header.items():
        start, end = entry["data_offsets"]
        if entry["dtype"] not in _ONNX_TYPES:
            continue  # integer buffers such as position ids: the graph keeps its own copy
        kind = _ONNX_TYPES[entry["dtype"]]
        offset = 8 + length + start
        layout[name] = _Stored(name, kind, tuple(entry["shape"]), offset, end - start)
    return layout


def _tensors(weights: Path) -> dict[str, NDArray[np.generic]]:
    try:
        tensors: dict[str, NDArray[np.generic]] = load_file(weights)
    except (SafetensorError, OSError, TypeError) as error:
        raise ModernPubMedError(
            f"not a readable file of fp32 or fp16 weights ({error})",
            file=weights,
            remedy="save the model in fp32 or fp16",
        ) from error
    return {
        name: tensor for name, tensor in tensors.items() if tensor.dtype in (np.float16, np.float32)
    }


def _digest(values: NDArray[np.generic]) -> bytes:
    """Equal for equal numbers of equal shape; fp16 tensors compare by their fp32 values."""
    content = np.ascontiguousarray(values, dtype=np.float32).tobytes()
    return hashlib.sha256(repr(values.shape).encode() + content).digest()
