"""A BERT encoder drawn as a graph by hand, for int8 kernels and for watching what goes into them.

What an exporter traces is right but spread over hundreds of small nodes, and a runtime fuses them
only where it recognises them. BERT is small enough to be written down: per layer four places where
activations meet weights, one attention, one GELU, two layer norms. How activations meet weights is
left to the caller, so that one drawing serves for calibration (fp32) and for int8.

Two things are laid out for speed (onnxruntime 1.32, AVX-512): padding is masked in a branch that a
batch of texts of one length never takes, since attention without a mask is a third faster; and
addition and layer norm stay two nodes, since the fused ``SkipLayerNormalization`` takes four times
as long as both.

Given up: everything but BERT with absolute positions and GELU. Token types other than the first
are not read; sentence encoders have none.

Reference: Devlin et al. 2019 (https://arxiv.org/abs/1810.04805).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from modernpubmed.encoder.folder import WEIGHTS_NAME, read_json
from modernpubmed.encoder.stored import Stored, read_layout, read_tensors, reference
from modernpubmed.errors import ModernPubMedError

Float = NDArray[np.float32]

#: The domain of onnxruntime's own operators.
MICROSOFT = "com.microsoft"

_EXPECTED = {
    "model_type": "bert",
    "hidden_act": "gelu",
    "position_embedding_type": "absolute",
    "is_decoder": False,
}


@dataclass(frozen=True, slots=True)
class Linear:
    """``x @ weight + bias`` with fp32 ``[k, n]`` and ``[n]``."""

    weight: Float
    bias: Float


@dataclass(frozen=True, slots=True)
class Norm:
    """A layer norm's two vectors ``[d]``."""

    weight: Float
    bias: Float


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer of the encoder."""

    query: Linear
    key: Linear
    value: Linear
    output: Linear
    attention_norm: Norm
    up: Linear
    down: Linear
    norm: Norm


@dataclass(frozen=True, slots=True)
class Bert:
    """A BERT encoder's weights by what they do.

    Attributes:
        words: Where the word embeddings ``[vocabulary, d]`` lie in ``model.safetensors``.
        positions: fp32 ``[positions, d]``, the first token type's embedding added.
        norm: The layer norm over embeddings.
        layers: From the first to the last.
        heads: Attention heads.
        epsilon: Of the layer norms.
    """

    words: Stored
    positions: Float
    norm: Norm
    layers: tuple[Layer, ...]
    heads: int
    epsilon: float


def read_bert(folder: Path) -> Bert:
    """Reads a model folder whose transformer is a BERT.

    Raises:
        ModernPubMedError: It is something else, or a weight is missing.
    """
    config: dict[str, Any] = read_json(folder / "config.json", kind=dict)
    for key, wanted in _EXPECTED.items():
        if config.get(key, wanted if key != "model_type" else None) != wanted:
            raise ModernPubMedError(
                f"{key} is {config.get(key)!r}, and an int8 graph is drawn for {wanted!r} only",
                file=folder / "config.json",
                remedy="modernpubmed export without --int8",
            )
    weights = folder / WEIGHTS_NAME
    layout = read_layout(weights)
    tensors = {name: tensor.astype(np.float32) for name, tensor in read_tensors(weights).items()}

    def one(name: str) -> Float:
        for full in (name, f"bert.{name}"):
            if full in tensors:
                return tensors[full]
        raise ModernPubMedError(
            "has no such tensor", file=weights, record=name, remedy="save the model again"
        )

    def linear(name: str) -> Linear:
        return Linear(np.ascontiguousarray(one(f"{name}.weight").T), one(f"{name}.bias"))

    def norm(name: str) -> Norm:
        return Norm(one(f"{name}.weight"), one(f"{name}.bias"))

    def layer(name: str) -> Layer:
        return Layer(
            query=linear(f"{name}.attention.self.query"),
            key=linear(f"{name}.attention.self.key"),
            value=linear(f"{name}.attention.self.value"),
            output=linear(f"{name}.attention.output.dense"),
            attention_norm=norm(f"{name}.attention.output.LayerNorm"),
            up=linear(f"{name}.intermediate.dense"),
            down=linear(f"{name}.output.dense"),
            norm=norm(f"{name}.output.LayerNorm"),
        )

    words = "embeddings.word_embeddings.weight"
    one(words)
    return Bert(
        words=layout.get(words) or layout[f"bert.{words}"],
        positions=one("embeddings.position_embeddings.weight")
        + one("embeddings.token_type_embeddings.weight")[0],
        norm=norm("embeddings.LayerNorm"),
        layers=tuple(
            layer(f"encoder.layer.{number}") for number in range(config["num_hidden_layers"])
        ),
        heads=config["num_attention_heads"],
        epsilon=config["layer_norm_eps"],
    )


class Drawing:
    """Nodes and constants of a graph, as they are added."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[TensorProto] = []

    def constant(self, values: NDArray[Any] | np.generic) -> str:
        """Adds a constant; returns its name."""
        name = f"constant.{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def node(self, kind: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        """Adds a node with one output; returns the output's name."""
        name = f"{kind}.{len(self.nodes)}"
        self.nodes.append(
            helper.make_node(kind, list(inputs), [name], name=name, domain=domain, **attributes)
        )
        return name


#: How activations meet weights: the drawing, the place (``0.up`` is layer 0's), the activations'
#: name, and the linear maps that share them; returns the names of their outputs.
Multiply = Callable[[Drawing, str, str, Sequence[Linear]], list[str]]


def draw(bert: Bert, multiply: Multiply) -> onnx.ModelProto:
    """The graph: ``input_ids`` and ``attention_mask`` ``[batch, tokens]`` to token vectors.

    The places where activations meet weights are named ``L.attention`` (queries, keys, values),
    ``L.context`` (what attention gives), ``L.up`` and ``L.down``, for each layer L from 0.
    """
    drawing = Drawing()
    drawing.constants.append(reference("stored.words", bert.words))
    node, constant = drawing.node, drawing.constant
    d = bert.positions.shape[1]

    def normed(x: str, norm: Norm) -> str:
        weights = constant(norm.weight), constant(norm.bias)
        return node("LayerNormalization", x, *weights, axis=-1, epsilon=bert.epsilon)

    zero, one = (constant(np.array([number], np.int64)) for number in (0, 1))
    words = node("Cast", node("Gather", "stored.words", "input_ids"), to=TensorProto.FLOAT)
    tokens = node("Shape", "input_ids", start=1, end=2)
    positions = node("Slice", constant(bert.positions), zero, tokens, zero, one)
    x = normed(node("Add", words, positions), bert.norm)
    mask = node("Cast", "attention_mask", to=TensorProto.INT32)
    smallest = node("ReduceMin", mask, keepdims=0)
    whole = node("Cast", smallest, to=TensorProto.BOOL)
    for number, layer in enumerate(bert.layers):
        heads = multiply(drawing, f"{number}.attention", x, (layer.query, layer.key, layer.value))
        context = _attention(drawing, heads, mask, whole, bert.heads)
        (y,) = multiply(drawing, f"{number}.context", context, (layer.output,))
        x = normed(node("Add", y, x), layer.attention_norm)
        (wide,) = multiply(drawing, f"{number}.up", x, (layer.up,))
        (y,) = multiply(drawing, f"{number}.down", node("Gelu", wide), (layer.down,))
        x = normed(node("Add", y, x), layer.norm)
    drawing.nodes.append(helper.make_node("Identity", [x], ["last_hidden_state"]))
    shape = ["batch", "tokens"]
    graph = helper.make_graph(
        drawing.nodes,
        "bert",
        [
            helper.make_tensor_value_info(name, TensorProto.INT64, shape)
            for name in ("input_ids", "attention_mask")
        ],
        [helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, [*shape, d])],
        drawing.constants,
    )
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid(MICROSOFT, 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def multiply_in_fp32(drawing: Drawing, place: str, x: str, linears: Sequence[Linear]) -> list[str]:
    """The plain product, in full precision; the activations are named after the place."""
    x = drawing.node("Identity", x)
    drawing.nodes[-1].output[0] = place
    return [
        drawing.node(
            "Add",
            drawing.node("MatMul", place, drawing.constant(linear.weight)),
            drawing.constant(linear.bias),
        )
        for linear in linears
    ]


def _attention(drawing: Drawing, heads: Sequence[str], mask: str, whole: str, count: int) -> str:
    """Attention over all tokens where nothing is padded, else over those of ``mask``."""
    branches = {}
    for branch, inputs in (("then_branch", heads), ("else_branch", [*heads, "", mask])):
        name = f"{branch}.{len(drawing.nodes)}"
        attend = helper.make_node(
            "MultiHeadAttention", list(inputs), [name], domain=MICROSOFT, num_heads=count
        )
        output = helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
        branches[branch] = helper.make_graph([attend], branch, [], [output])
    return drawing.node("If", whole, **branches)
