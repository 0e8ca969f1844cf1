"""``model.safetensors`` as ONNX external data: where its tensors lie, and references to them.

A safetensors file is eight bytes of length, a JSON header, and raw tensors; ONNX external data is
a file, an offset and a length. So a graph can point at a folder's weights instead of repeating
them.

Specification: https://onnx.ai/onnx/repo-docs/ExternalData.html,
https://github.com/huggingface/safetensors#format.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto
from safetensors import SafetensorError
from safetensors.numpy import load_file

from modernpubmed.encoder.folder import WEIGHTS_NAME
from modernpubmed.errors import ModernPubMedError

_ONNX_TYPES = {"F32": TensorProto.FLOAT, "F16": TensorProto.FLOAT16}


@dataclass(frozen=True, slots=True)
class Stored:
    """Where a tensor lies in ``model.safetensors``.

    Attributes:
        name: Its name there.
        onnx_type: ``TensorProto.FLOAT`` or ``FLOAT16``.
        shape: Its shape.
        offset: Bytes before it in the file.
        length: Its bytes.
    """

    name: str
    onnx_type: int
    shape: tuple[int, ...]
    offset: int
    length: int


def read_layout(weights: Path) -> Mapping[str, Stored]:
    """Where the fp32 and fp16 tensors of a safetensors file lie, by name."""
    with weights.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header: dict[str, Any] = json.loads(file.read(length))
    header.pop("__metadata__", None)
    layout: dict[str, Stored] = {}
    for name, entry in header.items():
        start, end = entry["data_offsets"]
        if entry["dtype"] not in _ONNX_TYPES:
            continue  # integer buffers such as position ids: the graph keeps its own copy
        kind = _ONNX_TYPES[entry["dtype"]]
        offset = 8 + length + start
        layout[name] = Stored(name, kind, tuple(entry["shape"]), offset, end - start)
    return layout


def read_tensors(weights: Path) -> dict[str, NDArray[np.generic]]:
    """The fp32 and fp16 tensors of a safetensors file, by name.

    Raises:
        ModernPubMedError: It cannot be read, or holds tensors that NumPy has no type for.
    """
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


def reference(name: str, place: Stored) -> TensorProto:
    """A graph's constant ``name`` whose bytes are those at ``place``."""
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
