r"""InfoNCE: the one loss that title–abstract training needs.

A batch holds B pairs; q_i is the unit vector of anchor i (a title), d_i of its positive (an
abstract). Every other document of the batch is a negative for q_i, free of charge. With cosine
similarities s_ij = q_i · d_j and temperature τ,

    L(q → d) = -1/B · Σ_i log( exp(s_ii / τ) / Σ_j exp(s_ij / τ) )

which is the cross-entropy of a B-way classification whose answer for row i is column i. The
symmetric form is the mean of L(q → d) and L(d → q), the same over the columns: abstracts must
find their titles too. A small τ weighs hard negatives more: at τ = 0.05 a negative 0.1 closer
counts e² = 7.4 times as much.

Sources: van den Oord et al. 2018 (arXiv:1807.03748), eq. 4; in-batch form Henderson et al. 2017
(arXiv:1705.00652), where 1/τ is sentence-transformers' ``scale`` of
``MultipleNegativesRankingLoss``; the symmetric form Radford et al. 2021 (arXiv:2103.00020).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor, nn
from torch.nn import functional


def info_nce(
    queries: Tensor, documents: Tensor, *, temperature: float, symmetric: bool = False
) -> Tensor:
    """The loss of a batch of pairs.

    Args:
        queries: ``[B, d]``, of any length; normalised here.
        documents: ``[B, d]``, row i the positive of query i.
        temperature: τ, above 0.
        symmetric: Whether to add the document → query direction.

    Returns:
        A scalar, in nats.

    >>> import math
    >>> vectors = torch.eye(4)
    >>> loss = info_nce(vectors, vectors, temperature=1.0)
    >>> round(loss.item(), 6) == round(math.log(math.e + 3) - 1, 6)
    True
    """
    similarity = functional.normalize(queries, dim=-1) @ functional.normalize(documents, dim=-1).T
    logits = similarity / temperature
    answers = torch.arange(len(logits), device=logits.device)
    loss = functional.cross_entropy(logits, answers)
    if symmetric:
        loss = (loss + functional.cross_entropy(logits.T, answers)) / 2
    return loss


class InfoNCELoss(nn.Module):
    """``info_nce`` in the form that sentence-transformers' trainer calls.

    Args:
        model: The encoder in training.
        temperature: τ.
        symmetric: Whether to add the document → query direction.
    """

    def __init__(self, model: SentenceTransformer, *, temperature: float, symmetric: bool) -> None:
        super().__init__()
        self.model = model
        self.temperature = temperature
        self.symmetric = symmetric

    def forward(self, sentence_features: Iterable[dict[str, Tensor]], labels: Tensor) -> Tensor:  # noqa: ARG002
        """The loss of two tokenised columns, anchors and positives."""
        anchors, positives = (
            self.model(features)["sentence_embedding"] for features in sentence_features
        )
        return info_nce(anchors, positives, temperature=self.temperature, symmetric=self.symmetric)

    def get_config_dict(self) -> dict[str, Any]:
        """What the trainer writes into the model card."""
        return {"temperature": self.temperature, "symmetric": self.symmetric}
