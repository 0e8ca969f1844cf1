"""Exporting a model folder's transformer to an ONNX graph that shares the folder's weights.

``torch.onnx.export(dynamo=True)`` traces the transformer (token ids in, token vectors out; it is
exact at every shape, where the older TorchScript exporter was not). Every large constant of the
graph is then found again in ``model.safetensors``, as it stands or transposed, and replaced by a
reference to those bytes (ONNX external data: a safetensors file is a header and raw tensors). So
the folder holds its weights once, in the dtype they were saved in; onnxruntime widens fp16 to
fp32 and transposes once, on loading, but for embeddings, of which it widens the rows that it reads.
Given up: a graph that works without the file beside it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
import onnx
import torch
import transformers
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from safetensors.torch import save_file
from sentence_transformers import SentenceTransformer

from modernpubmed.encoder.folder import GRAPH_NAME, INT8_NAME, WEIGHTS_NAME, read_folder
from modernpubmed.encoder.graph import WEIGHTS_KEY
from modernpubmed.encoder.probes import write_probes
from modernpubmed.encoder.stored import Stored, read_layout, read_tensors, reference
from modernpubmed.errors import ModernPubMedError
from modernpubmed.manifest import replacing, sha256

#: Constants below this many numbers stay in the graph: they cost less than a reference.
_SMALL = 256


def export(folder: Path, *, half: bool = False) -> Path:
    """Writes ``model.onnx`` and its probes into a sentence-transformers folder.

    An int8 graph made of other weights is removed: it would be refused.

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
    model.max_seq_length = limit = read_folder(folder).max_tokens
    write_probes(folder, lambda text: _token_vectors(model, text), max_tokens=limit)
    _remove_stale(folder / INT8_NAME, weights)
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
    tensors = read_tensors(weights)
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
        ours = Encoder.load(folder, precision="float32").encode(texts)
    theirs = model.encode(texts, normalize_embeddings=True, show_progress_bar=False)
    worst = float((ours * theirs).sum(axis=1).min())
    if not worst >= 0.9999:
        raise ModernPubMedError(
            f"the exported graph differs from the model (cosine {worst:.6f})",
            file=folder,
            remedy="report it with the model's name; the folder still works with torch",
        )


def _token_vectors(model: SentenceTransformer, text: str) -> NDArray[np.float32]:
    """float32 ``[s, d]``, as the torch model has them."""
    tokens = model.encode(
        text, output_value="token_embeddings", convert_to_numpy=False, show_progress_bar=False
    )
    vectors: NDArray[np.float32] = np.asarray(tokens.float())
    return vectors


def _remove_stale(graph: Path, weights: Path) -> None:
    """Removes a graph that points into other weights."""
    if not graph.is_file():
        return
    properties = onnx.load(str(graph), load_external_data=False).metadata_props
    if sha256(weights) not in {entry.value for entry in properties if entry.key == WEIGHTS_KEY}:
        graph.unlink()


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
    stored = read_layout(weights)
    tensors = read_tensors(weights)
    by_content: dict[bytes, tuple[Stored, bool]] = {}
    for name, tensor in tensors.items():
        if tensor.ndim == 2:
            by_content[_digest(tensor.T)] = (stored[name], True)
    for name, tensor in tensors.items():
        by_content[_digest(tensor)] = (stored[name], False)
    kept: list[TensorProto] = []
    widened: list[onnx.NodeProto] = []
    shared: set[str] = set()
    narrow: dict[str, str] = {}
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
            kept.append(reference(source, place))
        if not transposed and _is_table(model, initializer.name):
            narrow[initializer.name] = source
        else:
            widened.extend(_restore(source, initializer.name, transposed=transposed))
    nodes = [*widened, *_read_narrow(model.graph.node, narrow)]
    del model.graph.initializer[:], model.graph.node[:], model.graph.value_info[:]
    model.graph.initializer.extend(kept)
    model.graph.node.extend(nodes)
    return model


def _is_table(model: onnx.ModelProto, name: str) -> bool:
    """Whether a constant is only ever read by rows, as embeddings are."""
    readers = [node for node in model.graph.node if name in node.input]
    return all(node.op_type == "Gather" and name not in node.input[1:] for node in readers)


def _read_narrow(
    nodes: Iterable[onnx.NodeProto], tables: Mapping[str, str]
) -> Iterator[onnx.NodeProto]:
    """The nodes; rows of tables are read as they are stored, and only those are widened."""
    for node in nodes:
        if node.op_type != "Gather" or node.input[0] not in tables:
            yield node
            continue
        rows = node.output[0]
        node.input[0], node.output[0] = tables[node.input[0]], f"{rows}.stored"
        yield node
        yield helper.make_node("Cast", [node.output[0]], [rows], to=TensorProto.FLOAT)


def _restore(source: str, target: str, *, transposed: bool) -> list[onnx.NodeProto]:
    """Nodes that make the graph's constant of the stored one; onnxruntime folds them on loading."""
    wide = f"{target}.wide" if transposed else target
    nodes = [helper.make_node("Cast", [source], [wide], to=TensorProto.FLOAT)]
    if transposed:
        nodes.append(helper.make_node("Transpose", [wide], [target], perm=[1, 0]))
    return nodes


def _digest(values: NDArray[np.generic]) -> bytes:
    """Equal for equal numbers of equal shape; fp16 tensors compare by their fp32 values."""
    content = np.ascontiguousarray(values, dtype=np.float32).tobytes()
    return hashlib.sha256(repr(values.shape).encode() + content).digest()
