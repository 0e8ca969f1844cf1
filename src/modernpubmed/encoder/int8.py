"""The int8 graph of a BERT: weights and activations of every linear map in eight bits.

A processor with int8 dot products does about four times as many of them a second as in fp32.
Weights are rounded with one step an output channel. Activations are rounded with one step and
zero point a place, fixed here by what real texts give ("static"): finding them anew in every batch
("dynamic") costs time, and makes a text's vector depend on the texts that it happens to be computed
with. Attention, GELU and layer norms stay in fp32.

What makes eight bits coarse is that in BERT a few channels are ten times as large as the others and
stretch the range for all. So a channel beyond t times the median channel is divided down to that,
and its weights are multiplied by as much, which changes nothing before rounding; t is the one with
the least error in the place's products over a sample of activations, and so is a share of the range
that may be clipped. The division costs one cheap node; after attention none, since it goes into the
weights that make the values.

References: Xiao et al. 2023 (SmoothQuant, https://arxiv.org/abs/2211.10438), whose one exponent for
all channels, at its usual half, did worse here than no division (see the lab notes); Dettmers et
al. 2022 (https://arxiv.org/abs/2208.07339) on the large channels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper

from modernpubmed.encoder.bert import (
    MICROSOFT,
    Bert,
    Drawing,
    Float,
    Layer,
    Linear,
    Multiply,
    draw,
    multiply_in_fp32,
    read_bert,
)
from modernpubmed.encoder.folder import INT8_NAME, WEIGHTS_NAME, read_folder
from modernpubmed.encoder.graph import WEIGHTS_KEY, load_graph, load_tokenizer
from modernpubmed.errors import ModernPubMedError
from modernpubmed.manifest import replacing, sha256

#: Most texts that the ranges are taken from; of more, that many evenly.
CALIBRATION_TEXTS = 512

_OWN_TEXTS = Path(__file__).with_name("calibration_texts.txt")

# Rows of activations kept of each place, to measure a rounding's error on.
_SAMPLE = 1000
# What is tried: channels beyond so many medians are divided (the last: none); shares of the range.
_MEDIANS = (0.7, 1.0, 1.3, 1.7, 2.2, 3.0, 4.0, 6.0, np.inf)
_SHARES = (1.0, 0.9, 0.8)


@dataclass(frozen=True, slots=True)
class Scale:
    """How a place's activations become eight bits: ``round(x / divisor / step) + zero``.

    Attributes:
        divisor: fp32 ``[k]``, 1 or more for each channel.
        step: What one unit stands for.
        zero: The unit that stands for 0, 0 to 255.
    """

    divisor: Float
    step: np.float32
    zero: np.uint8

    def round(self, x: Float) -> Float:
        """What ``x / divisor`` becomes by rounding, as fp32 again."""
        units = np.clip(np.round(x / self.divisor / self.step) + int(self.zero), 0, 255)
        rounded: Float = (units - np.float32(self.zero)) * self.step
        return rounded


@dataclass(slots=True)
class _Seen:
    """What went into one place: each channel's extremes, and a sample of rows."""

    low: Float
    high: Float
    rows: list[Float]


def export_int8(folder: Path, texts: Sequence[str] | None = None) -> Path:
    """Writes ``model_int8.onnx`` into a folder that has a ``model.onnx`` with its probes.

    Args:
        folder: A sentence-transformers folder whose transformer is a BERT.
        texts: What the ranges of activations are taken from: texts like those that will be encoded,
            short and long; of more than 512, that many at random. None takes some of our own.

    Returns:
        The path of the graph.

    Raises:
        ModernPubMedError: The transformer is no BERT; there are no texts; the int8 vectors are too
            far from those of ``model.onnx`` (nothing is written then).
    """
    if texts is None:
        texts = _OWN_TEXTS.read_text(encoding="utf-8").splitlines()
    if not texts:
        raise ModernPubMedError("no texts to calibrate on", remedy="give a few hundred")
    settings = read_folder(folder)
    bert = read_bert(folder)
    tokenizer = load_tokenizer(folder, settings.max_tokens)
    generator = np.random.default_rng(0)
    places = generator.permutation(len(texts))[:CALIBRATION_TEXTS]
    chosen = [texts[place] for place in places]
    if settings.lower_case:
        chosen = [text.lower() for text in chosen]
    ids = [encoding.ids for encoding in tokenizer.encode_batch_fast(chosen)]
    scales = _scales(bert, _watch(bert, ids, folder / WEIGHTS_NAME))
    graph = draw(_fold(bert, scales), _multiply(scales))
    helper.set_model_props(graph, {WEIGHTS_KEY: sha256(folder / WEIGHTS_NAME)})
    target = folder / INT8_NAME
    with replacing(target) as temporary:
        temporary.write_bytes(graph.SerializeToString())
    try:
        load_graph(read_folder(folder), precision="int8")  # checks its vectors on the probes
    except BaseException:
        target.unlink()
        raise
    return target


def _watch(bert: Bert, ids: Sequence[Sequence[int]], weights: Path) -> Mapping[str, _Seen]:
    """What the texts' activations are at each place, in fp32."""
    graph = draw(bert, multiply_in_fp32)
    linears = _linears(bert)
    for place in linears:
        graph.graph.output.append(helper.make_tensor_value_info(place, TensorProto.FLOAT, None))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    data = weights.read_bytes()
    options.add_external_initializers_from_files_in_memory([WEIGHTS_NAME], [data], [len(data)])
    session = onnxruntime.InferenceSession(
        graph.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    seen: dict[str, _Seen] = {}
    generator = np.random.default_rng(0)
    share = _SAMPLE / sum(map(len, ids))
    for text in ids:
        row = np.array([text], dtype=np.int64)
        feed = {"input_ids": row, "attention_mask": np.ones_like(row)}
        kept = generator.random(len(text)) < share
        for place, found in zip(linears, session.run(list(linears), feed), strict=True):
            x = found[0]
            low, high = x.min(axis=0), x.max(axis=0)
            if place not in seen:
                seen[place] = _Seen(low, high, [x])  # all of the first text: never no row at all
                continue
            last = seen[place]
            last.low, last.high = np.minimum(last.low, low), np.maximum(last.high, high)
            last.rows.append(x[kept])
    return seen


def _scales(bert: Bert, seen: Mapping[str, _Seen]) -> dict[str, Scale]:
    """For each place the scale with the least error in its products."""
    scales: dict[str, Scale] = {}
    for place, linears in _linears(bert).items():
        there = seen[place]
        x = np.concatenate(there.rows)
        weight = np.concatenate([linear.weight for linear in linears], axis=1)
        exact = x @ weight
        largest = np.maximum(np.abs(there.low), np.abs(there.high))
        best = np.inf
        for medians in _MEDIANS:
            divisor = np.maximum(largest / (medians * np.median(largest)), 1).astype(np.float32)
            units, steps = _round_weight(weight * divisor[:, None])
            rounded = units * steps
            for share in _SHARES:
                scale = _scale(there.low / divisor, there.high / divisor, divisor, share)
                error = float(np.square(scale.round(x) @ rounded - exact).sum())
                if error < best:
                    best, scales[place] = error, scale
    return scales


def _scale(low: Float, high: Float, divisor: Float, share: float) -> Scale:
    """The scale that covers ``share`` of the range from ``low`` to ``high``, and 0."""
    bottom, top = share * min(0.0, float(low.min())), share * max(0.0, float(high.max()))
    step = np.float32(max((top - bottom) / 255, 1e-12))
    return Scale(divisor, step, np.uint8(np.clip(np.round(-bottom / step), 0, 255)))


def _round_weight(weight: Float) -> tuple[NDArray[np.int8], Float]:
    """A weight in eight bits, and the step ``[n]`` of each output channel."""
    steps = (np.maximum(np.abs(weight).max(axis=0), 1e-12) / 127).astype(np.float32)
    return np.round(weight / steps).astype(np.int8), steps


def _linears(bert: Bert) -> dict[str, tuple[Linear, ...]]:
    """The linear maps of each place."""
    linears: dict[str, tuple[Linear, ...]] = {}
    for number, layer in enumerate(bert.layers):
        linears[f"{number}.attention"] = (layer.query, layer.key, layer.value)
        linears[f"{number}.context"] = (layer.output,)
        linears[f"{number}.up"] = (layer.up,)
        linears[f"{number}.down"] = (layer.down,)
    return linears


def _fold(bert: Bert, scales: Mapping[str, Scale]) -> Bert:
    """The same encoder, with what attention gives divided already where its values are made."""

    def folded(number: int, layer: Layer) -> Layer:
        divisor = scales[f"{number}.context"].divisor
        value = Linear(layer.value.weight / divisor, layer.value.bias / divisor)
        return replace(layer, value=value)

    return replace(bert, layers=tuple(folded(*item) for item in enumerate(bert.layers)))


def _multiply(scales: Mapping[str, Scale]) -> Multiply:
    def multiply(drawing: Drawing, place: str, x: str, linears: Sequence[Linear]) -> list[str]:
        scale, constant = scales[place], drawing.constant
        if scale.divisor.max() > 1 and not place.endswith(".context"):
            x = drawing.node("Mul", x, constant(1 / scale.divisor))
        step, zero = constant(scale.step), constant(scale.zero)
        units = drawing.node("QuantizeLinear", x, step, zero)
        outputs = []
        for linear in linears:
            weight, steps = _round_weight(linear.weight * scale.divisor[:, None])
            outputs.append(
                drawing.node(
                    "MatMulIntegerToFloat",
                    *(units, constant(weight), step, constant(steps), zero, ""),
                    constant(linear.bias),
                    domain=MICROSOFT,
                )
            )
        return outputs

    return multiply
