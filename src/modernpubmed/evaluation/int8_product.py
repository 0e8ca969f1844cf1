"""A matrix product of 8-bit integers, which NumPy lacks: one node of ONNX run by onnxruntime.

Processors multiply 8-bit integers four times as fast as float32 or faster (AVX-512 VNNI, AMX,
Arm's dot product), and onnxruntime, already a dependency, knows how. The graph is a single
``MatMulInteger`` whose right matrix is a constant, so that it is laid out for the processor once;
it is written here byte by byte, a hundred of them beside the matrix, because the ``onnx`` package
is not a dependency of the core.

The sums are exact. On x86 without VNNI onnxruntime adds up pairs of products in 16 bits, which
cuts off what is above 32,767: there ``largest`` is so small that none is. The left matrix always
has ``ROWS`` rows, so that a last row alone never gets code of its own.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import onnxruntime
from numpy.typing import NDArray

#: Rows of the left matrix: 2 MiB of sums for 512 columns, the most that stays near the processor.
ROWS = 1024

# What ONNX calls its types (onnx.proto3: TensorProto.DataType).
_UINT8, _INT8, _INT32 = 2, 3, 6


@functools.cache
def largest() -> int:
    """The largest magnitude of an entry that this processor multiplies exactly: 127 or 90.

    The left matrix is stored from 0 to twice that, and 2 × (2 × 90) × 90 is 32,400.
    """
    left = np.full((ROWS, 16), 254, dtype=np.uint8)
    out = np.empty((ROWS, 32), dtype=np.int32)
    int8_product(np.full((16, 32), 127, dtype=np.int8), 127)(left, out)
    return 127 if (out == 16 * 127 * 127).all() else 90


def int8_product(
    right: NDArray[np.int8], zero: int
) -> Callable[[NDArray[np.uint8], NDArray[np.int32]], None]:
    """The product with a fixed right matrix.

    Args:
        right: ``[d, n]``, entries within ±``largest()``; d at most 66,000, or a sum might overflow.
        zero: How much too high the entries of the left matrix are; at least their magnitude.

    Returns:
        A function of ``left``, uint8 ``[ROWS, d]``, and of ``out``, int32 ``[ROWS, n]``, which it
        fills with ``(left - zero) @ right``; both contiguous. It uses one thread.

    >>> left, out = np.full((ROWS, 2), 90, np.uint8), np.empty((ROWS, 1), np.int32)
    >>> left[0] = 93, 89
    >>> int8_product(np.array([[10], [20]], np.int8), zero=90)(left, out)
    >>> out[:2].tolist()
    [[10], [0]]
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        _graph(right, zero), options, providers=["CPUExecutionProvider"]
    )

    def multiply(left: NDArray[np.uint8], out: NDArray[np.int32]) -> None:
        binding = session.io_binding()
        binding.bind_input("left", "cpu", 0, np.uint8, left.shape, left.ctypes.data)
        binding.bind_output("out", "cpu", 0, np.int32, out.shape, out.ctypes.data)
        session.run_with_iobinding(binding)

    return multiply


def _graph(right: NDArray[np.int8], zero: int) -> bytes:
    """The model as ONNX stores it; the numbers are those of the fields in onnx.proto3."""
    depth, columns = right.shape
    node = b"".join(_field(1, name) for name in ("left", "right", "zero"))
    node += _field(2, "out") + _field(4, "MatMulInteger")
    graph = _field(1, node) + _field(2, "product")
    graph += _field(5, _tensor("right", _INT8, right))
    graph += _field(5, _tensor("zero", _UINT8, np.array(zero, dtype=np.uint8)))
    graph += _field(11, _value("left", _UINT8, (ROWS, depth)))
    graph += _field(12, _value("out", _INT32, (ROWS, columns)))
    # The format's version 8 and the operators' version 10, the first with MatMulInteger.
    return _field(1, 8) + _field(7, graph) + _field(8, _field(2, 10))


def _tensor(name: str, kind: int, array: NDArray[np.int8] | NDArray[np.uint8]) -> bytes:
    shape = b"".join(_field(1, size) for size in array.shape)
    return shape + _field(2, kind) + _field(8, name) + _field(9, array.tobytes())


def _value(name: str, kind: int, shape: tuple[int, ...]) -> bytes:
    sizes = b"".join(_field(1, _field(1, size)) for size in shape)
    return _field(1, name) + _field(2, _field(1, _field(1, kind) + _field(2, sizes)))


def _field(number: int, value: int | str | bytes) -> bytes:
    """One field of a protobuf message: a number, or anything that has a length."""
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    data = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _varint(value: int) -> bytes:
    """Seven bits a byte, the lowest first; all bytes but the last have the eighth set."""
    data = bytearray()
    while value > 127:
        data.append(value & 127 | 128)
        value >>= 7
    return bytes([*data, value])
