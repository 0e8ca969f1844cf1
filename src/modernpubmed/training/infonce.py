r"""InfoNCE and what may be added to it: the loss of a batch, from its vectors.

A batch holds B pairs; q_i is the unit vector of anchor i (a title), d_i of its positive (an
abstract). Every other document of the batch is a negative for q_i, free of charge. With cosine
similarities s(q, d) = q · d and temperature τ,

    L(q → d) = -1/B · Σ_i log( exp(s(q_i, d_i) / τ) / Σ_c exp(s(q_i, c) / τ) )

which is cross-entropy over the candidates c: the B documents of the batch, and the hard negatives
of all its pairs where there are any (texts like the positive, mined). A small τ weighs near
candidates more: at τ = 0.05 a negative 0.1 closer counts e² = 7.4 times as much. On top of this:

- *Symmetric.* The mean of L(q → d) and L(d → q), in which documents must find their queries among
  the B queries, and among contrast queries (near-identical to a query, with another meaning) where
  there are any: abstracts must tell their own title from one with "increase" for "decrease".
- *False negatives.* A candidate that is really related to q_i is left out of the sum
  (``related``), never the positive itself.
- *Across devices.* Each process has B/W of the queries and sees all W processes' candidates. Their
  vectors are gathered with gradients, so W processes give the gradient of one that has them all.
- *Matryoshka.* The mean of the loss over vectors cut to their first m coordinates, so that these
  work on their own.
- *Distillation.* Plus λ · KL(P_teacher ‖ P_student), where P is the softmax over the pair's own
  process's documents at the same τ: what the teacher found similar stays similar.

Sources: van den Oord et al. 2018 (arXiv:1807.03748), eq. 4; in-batch form Henderson et al. 2017
(arXiv:1705.00652); symmetric form and gathering Radford et al. 2021 (arXiv:2103.00020); contrast
captions as hard negatives Yuksekgonul et al. 2023 (arXiv:2210.01936); masking as in GISTEmbed,
Solatorio 2024 (arXiv:2402.16829); Kusupati et al. 2022 (arXiv:2205.13147); in-batch distillation
Lin et al. 2021 (TCT-ColBERT, arXiv:2010.11386).

sentence-transformers has ``MultipleNegativesRankingLoss`` (1/τ is its ``scale``),
``MatryoshkaLoss`` and ``GISTEmbedLoss``; tests show this module equal to each where both can say
the same. It is ours because theirs cannot leave out single candidates by reason, take contrast
queries, or cope with pairs that have fewer hard negatives than others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, distributed
from torch.nn import functional


@dataclass(frozen=True, slots=True)
class Vectors:
    """The vectors of one process's share of a batch, of any length; normalised by the loss.

    Attributes:
        queries: ``[b, d]``.
        documents: ``[b, d]``, row i the positive of query i.
        hard_documents: ``[b · n, d]``, n for each pair, or ``[0, d]``.
        hard_queries: ``[b, d]``, a contrast to each query, or ``[0, d]``.
    """

    queries: Tensor
    documents: Tensor
    hard_documents: Tensor
    hard_queries: Tensor

    @classmethod
    def of_pairs(cls, queries: Tensor, documents: Tensor) -> Vectors:
        """Without hard negatives."""
        return cls(queries, documents, queries[:0], queries[:0])


@dataclass(frozen=True, slots=True)
class Objective:
    """What is minimised.

    Attributes:
        temperature: τ, above 0.
        symmetric: Whether documents must find their queries too.
        matryoshka: Lengths m to which vectors are cut besides their full one.
        distillation: λ, 0 for none.
    """

    temperature: float
    symmetric: bool = False
    matryoshka: tuple[int, ...] = ()
    distillation: float = 0.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """A loss and what is worth seeing beside it.

    Attributes:
        loss: Scalar, in nats.
        accuracy: Share of queries whose own document scored highest, a scalar without gradient.
    """

    loss: Tensor
    accuracy: Tensor


def info_nce(
    vectors: Vectors,
    objective: Objective,
    *,
    related: Tensor | None = None,
    related_queries: Tensor | None = None,
    teacher: Vectors | None = None,
) -> Outcome:
    """The loss of a batch of pairs.

    Args:
        vectors: This process's share.
        objective: What to minimise.
        related: ``[b, W·b + W·b·n]`` bool: which candidates (documents of all W processes in the
            order of their ranks, then all their hard documents) are left out for a query.
            A query's own positive must not be among them.
        related_queries: ``[b, W·b + W·b']`` bool, the same for documents against queries and
            contrast queries. Only used if the objective is symmetric.
        teacher: The teacher's vectors of the same texts; needed if there is distillation.

    >>> import math
    >>> vectors = Vectors.of_pairs(torch.eye(4), torch.eye(4))
    >>> outcome = info_nce(vectors, Objective(temperature=1.0))
    >>> round(outcome.loss.item(), 6) == round(math.log(math.e + 3) - 1, 6)
    True
    """
    width = vectors.queries.shape[1]
    cuts = [width, *(m for m in objective.matryoshka if m < width)]
    everyone = _gathered(vectors)
    first = torch.zeros((), device=vectors.queries.device)
    losses: list[Tensor] = []
    for cut in cuts:
        queries, documents = _unit(vectors.queries, cut), _unit(vectors.documents, cut)
        candidates = _unit(torch.cat([everyone.documents, everyone.hard_documents]), cut)
        logits = _logits(queries, candidates, objective.temperature, related)
        answers = _answers(queries)
        loss = functional.cross_entropy(logits, answers)
        if not losses:
            first = (logits.argmax(dim=1) == answers).float().mean()
        if objective.symmetric:
            candidates = _unit(torch.cat([everyone.queries, everyone.hard_queries]), cut)
            logits = _logits(documents, candidates, objective.temperature, related_queries)
            loss = (loss + functional.cross_entropy(logits, answers)) / 2
        losses.append(loss)
    total = torch.stack(losses).mean()
    if objective.distillation:
        assert teacher is not None, "distillation needs a teacher"  # noqa: S101
        total = total + objective.distillation * _divergence(
            vectors, teacher, objective.temperature
        )
    return Outcome(total, first.detach())


def cosines(vectors: Vectors) -> tuple[Tensor, Tensor, Tensor]:
    """Of this process's queries with all candidates, and with their own documents.

    Returns:
        ``[b, W·b + W·b·n]`` in the order of ``info_nce``'s ``related``; ``[b]``; and ``[b]``, the
        columns in which their own documents are.
    """
    everyone = _gathered(vectors)
    queries = _unit(vectors.queries)
    candidates = _unit(torch.cat([everyone.documents, everyone.hard_documents]))
    own = (queries * _unit(vectors.documents)).sum(dim=1)
    return queries @ candidates.T, own, _answers(queries)


def _divergence(vectors: Vectors, teacher: Vectors, temperature: float) -> Tensor:
    """KL(P_teacher ‖ P_student) over the documents of the batch, in nats, mean over queries."""
    student = _logits(_unit(vectors.queries), _unit(vectors.documents), temperature, None)
    target = _logits(_unit(teacher.queries), _unit(teacher.documents), temperature, None)
    return functional.kl_div(
        functional.log_softmax(student, dim=1),
        functional.log_softmax(target, dim=1),
        log_target=True,
        reduction="batchmean",
    )


def _logits(
    queries: Tensor, candidates: Tensor, temperature: float, left_out: Tensor | None
) -> Tensor:
    logits = queries @ candidates.T / temperature
    return logits if left_out is None else logits.masked_fill(left_out, float("-inf"))


def _unit(vectors: Tensor, cut: int | None = None) -> Tensor:
    # In fp32 whatever the encoder computes in: bf16 tells cosines near 1 apart by 0.004 only.
    return functional.normalize(vectors[:, :cut].to(_at_least_fp32(vectors.dtype)), dim=-1)


def _at_least_fp32(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)


def _gathered(vectors: Vectors) -> Vectors:
    if not _several():
        return vectors
    return Vectors(
        _all(vectors.queries),
        _all(vectors.documents),
        _all(vectors.hard_documents),
        _all(vectors.hard_queries),
    )


def _all(part: Tensor) -> Tensor:
    # Every process takes part with equally many rows: unequal ones would wait for ever.
    gathered: Tensor = _Gather.apply(part) if len(part) else part  # type: ignore[no-untyped-call]
    return gathered


class _Gather(torch.autograd.Function):
    """The rows of all processes, in the order of their ranks, with gradients.

    The processes' losses are summed: a row's gradient is what all of them ask of it.
    """

    @staticmethod
    def forward(context: Any, part: Tensor) -> Tensor:
        part = part.contiguous()
        parts = [torch.empty_like(part) for _ in range(distributed.get_world_size())]
        distributed.all_gather(parts, part)
        context.rows = len(part)
        return torch.cat(parts)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        gradient = gradient.contiguous()
        distributed.all_reduce(gradient)
        first = distributed.get_rank() * context.rows
        return gradient[first : first + context.rows]


def _answers(queries: Tensor) -> Tensor:
    """The columns of the queries' own documents."""
    rank = distributed.get_rank() if _several() else 0
    return rank * len(queries) + torch.arange(len(queries), device=queries.device)


def _several() -> bool:
    started = distributed.is_available() and distributed.is_initialized()
    return started and distributed.get_world_size() > 1
