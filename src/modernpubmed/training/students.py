"""What students have in common: a teacher asked, and how far they agree with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from modernpubmed.protocols import DocumentEncoder

#: What is done, how much of it is done, and of how much in all.
Report = Callable[[str, int, int], None]

Floats = NDArray[np.float32]

# Texts that are encoded between two reports.
_BLOCK = 1024


def asked(teacher: DocumentEncoder, texts: Sequence[str], what: str, report: Report) -> Floats:
    """The teacher's vectors of texts, ``[n, D]``; ``what`` says of which, in reports."""
    blocks = []
    for start in range(0, len(texts), _BLOCK):
        report(what, start, len(texts))
        blocks.append(teacher.encode_document(texts[start : start + _BLOCK]))
    return np.concatenate(blocks)


def principal_axes(vectors: NDArray[np.floating]) -> Floats:
    """Orthonormal columns ``[d, d]``: where vectors ``[n, d]`` have most, most first."""
    exact = vectors.astype(np.float64)
    _, axes = np.linalg.eigh(exact.T @ exact)
    return np.ascontiguousarray(axes[:, ::-1], dtype=np.float32)


def agreement(texts: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """How far the nearness of texts is from what a teacher says, in nats.

    The mean over i of KL(softmax_j(t_i·t_j / τ) ‖ softmax_j(u_i·u_j / τ)) over j ≠ i, for unit
    vectors u and the teacher's t: which texts are near which, in whatever basis (similarity
    distillation: Tejankar et al. 2021, arXiv:2012.09259, here within a batch).

    Args:
        texts: b vectors, ``[b, d]``.
        teacher: The teacher's unit vectors of them, ``[b, D]``.
        temperature: τ.

    >>> agreement(torch.eye(3), torch.eye(3)[:, [2, 0, 1]], 0.1).item()
    0.0
    """
    unit = functional.normalize(texts, dim=1)
    own = torch.eye(len(unit), dtype=torch.bool, device=unit.device)
    # Not -inf: its product with a probability of 0 is no number.
    found, wanted = (
        functional.log_softmax((x @ x.T / temperature).masked_fill(own, -1e4), dim=1)
        for x in (unit, teacher)
    )
    return functional.kl_div(found, wanted, log_target=True, reduction="batchmean")
