"""What a static model learns by: losses on the means of token vectors, and a step of Adam.

A text is a bag: how often each token is in it, a row c of a sparse matrix. Its vector is u = z/‖z‖
with z = cW, where W is the table of token vectors; a mean would have the same direction. Two losses
on batches of b texts, with their gradients by the vectors z written out:

- ``contrast``: InfoNCE of both directions. With s_ij = u_i·v_j / τ for anchors u and positives v,
  the mean over i of -s_ii + log Σ_j exp s_ij and of -s_ii + log Σ_j exp s_ji, halved.
- ``agreement``: the cross-entropy of softmax_j(u_i·u_j / τ) against softmax_j(t_i·t_j / τ) over
  j ≠ i, where t are the teacher's unit vectors: which texts are near which, in whatever basis
  (similarity distillation: Tejankar et al. 2021, arXiv:2012.09259, here within a batch).

The gradient of a batch touches only the rows of tokens that are in it, and so does its step of
Adam (Kingma & Ba 2015, arXiv:1412.6980): a rare token's moments do not fade while it is away.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from tokenizers import Tokenizer

from modernpubmed.training.vocabulary import token_ids

Floats = NDArray[np.float32]

_DECAYS = 0.9, 0.99


def bags(tokenizer: Tokenizer, texts: Sequence[str]) -> sparse.csr_array:
    """How often each token is in each of n texts, float32 ``[n, tokens]``."""
    ids, ends = token_ids(tokenizer, texts)
    counts = sparse.csr_array(
        (np.ones(len(ids), np.float32), ids, ends), shape=(len(texts), tokenizer.get_vocab_size())
    )
    counts.sum_duplicates()
    return counts


def contrast(
    anchors: Floats, positives: Floats, same: NDArray[np.bool_], temperature: float
) -> tuple[float, Floats, Floats]:
    """InfoNCE of both directions.

    Args:
        anchors: z of the b anchors, ``[b, d]``.
        positives: z of their positives, ``[b, d]``.
        same: Which anchors and positives mean the same, ``[b, b]``: they are no negatives. The
            diagonal does not matter.
        temperature: τ.

    Returns:
        The loss, and its gradients by ``anchors`` and ``positives``.
    """
    (u, u_length), (v, v_length) = _unit(anchors), _unit(positives)
    scores = u @ v.T / np.float32(temperature)
    own = np.eye(len(u), dtype=np.bool_)
    scores[same & ~own] = -np.inf
    rows, columns = _softmax(scores), _softmax(scores.T).T
    loss = -float(np.mean(np.log(np.diag(rows)) + np.log(np.diag(columns)))) / 2
    gradient = ((rows + columns) / 2 - own) / np.float32(len(u) * temperature)
    return loss, _through_unit(u, u_length, gradient @ v), _through_unit(v, v_length, gradient.T @ u)


def agreement(texts: Floats, teacher: Floats, temperature: float) -> tuple[float, Floats]:
    """How far the nearness of texts is from what a teacher says.

    Args:
        texts: z of b texts, ``[b, d]``.
        teacher: The teacher's unit vectors of them, ``[b, D]``.
        temperature: τ.

    Returns:
        The loss, and its gradient by ``texts``.
    """
    u, length = _unit(texts)
    scores, wanted = (x @ x.T / np.float32(temperature) for x in (u, teacher))
    for matrix in (scores, wanted):
        np.fill_diagonal(matrix, -np.inf)
    found, aim = _softmax(scores), _softmax(wanted)
    logs = np.log(np.maximum(found, np.finfo(np.float32).tiny))
    gradient = (found - aim) / np.float32(len(u) * temperature)
    loss = -float((aim * logs).sum()) / len(u)
    return loss, _through_unit(u, length, (gradient + gradient.T) @ u)


class Descent:
    """Adam on a table, on the rows that a gradient is about.

    Args:
        table: float32 ``[tokens, d]``; changed in place.
    """

    def __init__(self, table: Floats) -> None:
        self.table = table
        self._mean = np.zeros_like(table)
        self._square = np.zeros_like(table)
        self._steps = 0

    def step(self, bags: sparse.csr_array, gradient: Floats, learning_rate: float) -> None:
        """One step.

        Args:
            bags: The batch, ``[n, tokens]``.
            gradient: Of the loss by the bags' vectors z, ``[n, d]``.
            learning_rate: Of this step.
        """
        self._steps += 1
        present = np.zeros(len(self.table), dtype=np.bool_)
        present[bags.indices] = True
        rows = np.flatnonzero(present)
        columns = (np.cumsum(present) - 1)[bags.indices]
        used = sparse.csr_array((bags.data, columns, bags.indptr), shape=(len(gradient), len(rows)))
        slope = used.T @ gradient
        one, two = (np.float32(decay) for decay in _DECAYS)
        mean = self._mean[rows] = one * self._mean[rows] + (1 - one) * slope
        square = self._square[rows] = two * self._square[rows] + (1 - two) * slope * slope
        mean = mean / (1 - one**self._steps)
        square = square / (1 - two**self._steps)
        self.table[rows] -= np.float32(learning_rate) * mean / (np.sqrt(square) + np.float32(1e-9))


def _unit(vectors: Floats) -> tuple[Floats, Floats]:
    """Rows at length 1, and the lengths they had."""
    length = np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.float32(1e-6))
    return vectors / length, length


def _through_unit(unit: Floats, length: Floats, gradient: Floats) -> Floats:
    """The gradient by z, of the gradient by z/‖z‖."""
    along = (gradient * unit).sum(axis=1, keepdims=True)
    result: Floats = (gradient - along * unit) / length
    return result


def _softmax(scores: Floats) -> Floats:
    """Of each row."""
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    share: Floats = powers / powers.sum(axis=1, keepdims=True)
    return share
