"""One step's gradient: plain where the batch fits in memory, with cached gradients where not.

Gradient caching (GradCache, Gao et al. 2021, arXiv:2101.06983): the loss needs all vectors of a
batch at once, but the encoder's activations only one chunk at a time. So (1) every chunk is
encoded without keeping activations, (2) the loss's gradient with respect to each vector is
computed and kept, (3) every chunk is encoded again, now with activations, and the kept gradients
are sent back through it. The result is the gradient of the whole batch, exactly: dropout draws the
same numbers both times.

sentence-transformers has ``CachedMultipleNegativesRankingLoss``; a test shows this equal to it.
Ours pads each chunk to its own length, decides by itself when caching is needed, and lets several
devices exchange gradients once a step.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from modernpubmed.training.infonce import Objective, Outcome, Vectors, cosines, info_nce

Chunk = dict[str, Tensor]
Backward = Callable[[Tensor], object]
Quiet = Callable[[], AbstractContextManager[Any]]


@dataclass(frozen=True, slots=True)
class Judges:
    """Frozen models that look on.

    Attributes:
        teacher: Whose similarities are to be kept, if any.
        guide: What it finds nearer to a query than its positive is no negative, if any.
        guide_margin: In cosine; with 0.1, what comes within 0.1 of the positive is left out too.
    """

    teacher: nn.Module | None = None
    guide: nn.Module | None = None
    guide_margin: float = 0.0


@dataclass(frozen=True, slots=True)
class StepResult:
    """What a step computed, apart from the gradient, which the parameters hold."""

    loss: Tensor
    accuracy: Tensor
    masked: Counter[str]
    cached: bool


def gradient(
    model: nn.Module,
    batch: dict[str, Any],
    objective: Objective,
    *,
    memory_tokens: int,
    judges: Judges | None = None,
    backward: Backward = torch.Tensor.backward,
    quiet: Quiet = nullcontext,
) -> StepResult:
    """Adds the gradient of the batch's loss to the parameters.

    Args:
        model: Takes a chunk, gives ``sentence_embedding`` ``[n, d]``.
        batch: From ``assemble``, on the model's device.
        objective: The loss.
        memory_tokens: With more padded tokens than this, gradients are cached.
        judges: Frozen models, if any.
        backward: How a scalar is differentiated (the trainer's own way).
        quiet: A context in which devices do not exchange gradients; used for all chunks but the
            last.
    """
    chunks, slots = batch["chunks"], batch["slots"]
    parts = batch["parts"]

    def outcome(table: Tensor) -> tuple[Outcome, Counter[str]]:
        vectors = _parted(table, parts)
        related, masked = batch["related"], Counter(batch["masked"])
        teacher = None
        if judges is not None:
            with torch.no_grad():
                if judges.teacher is not None:
                    looked = _table(judges.teacher, chunks, slots, sum(parts))
                    teacher = _parted(looked, parts)
                if judges.guide is not None:
                    looked = _table(judges.guide, chunks, slots, sum(parts))
                    guide = _parted(looked, parts)
                    related, new = _guided(guide, related, judges.guide_margin)
                    masked["guide"] = new
        result = info_nce(
            vectors,
            objective,
            related=related,
            related_queries=batch["related_queries"],
            teacher=teacher,
        )
        return result, masked

    if batch["padded"] <= memory_tokens or len(chunks) == 1:
        result, masked = outcome(_table(model, chunks, slots, sum(parts)))
        backward(result.loss)
        return StepResult(result.loss.detach(), result.accuracy, masked, cached=False)

    states: list[_RandomState] = []
    with torch.no_grad():
        table = _table(
            model, chunks, slots, sum(parts), before=lambda: states.append(_RandomState.now())
        )
    table.requires_grad_()
    result, masked = outcome(table)
    backward(result.loss)
    assert table.grad is not None  # noqa: S101
    kept, start = table.grad, 0
    for number, (chunk, state) in enumerate(zip(chunks, states, strict=True)):
        end = start + len(chunk["input_ids"])
        last = number == len(chunks) - 1
        with nullcontext() if last else quiet(), state.again():
            vectors = model(dict(chunk))["sentence_embedding"]
            backward((vectors * kept[slots[start:end]]).sum())
        start = end
    return StepResult(result.loss.detach(), result.accuracy, masked, cached=True)


def _table(
    model: nn.Module,
    chunks: Sequence[Chunk],
    slots: Tensor,
    rows: int,
    before: Callable[[], object] = lambda: None,
) -> Tensor:
    """The vectors of all texts, each in its slot; empty slots are zero. ``[rows, d]``."""
    parts = []
    for chunk in chunks:
        before()
        parts.append(model(dict(chunk))["sentence_embedding"])
    vectors = torch.cat(parts)
    return vectors.new_zeros(rows, vectors.shape[1]).index_copy(0, slots, vectors)


def _parted(table: Tensor, parts: Sequence[int]) -> Vectors:
    queries, documents, hard_documents, hard_queries = torch.split_with_sizes(table, list(parts))
    return Vectors(queries, documents, hard_documents, hard_queries)


def _guided(guide: Vectors, related: Tensor, margin: float) -> tuple[Tensor, int]:
    """Leaves out what the guide finds nearer to a query than its own document, less a margin."""
    similarity, own, answers = cosines(guide)
    nearer = similarity > own[:, None] - margin
    nearer[torch.arange(len(answers), device=answers.device), answers] = False
    new = nearer & ~related
    return related | new, int(new.sum())


@dataclass(frozen=True, slots=True)
class _RandomState:
    """The random numbers that come next, on the CPU and on the current GPU."""

    cpu: Tensor
    gpu: Tensor | None

    @classmethod
    def now(cls) -> _RandomState:
        gpu = torch.cuda.get_rng_state() if torch.cuda.is_available() else None
        return cls(torch.get_rng_state(), gpu)

    @contextmanager
    def again(self) -> Iterator[None]:
        """Draws these numbers once more inside, and goes on outside as if nothing had been."""
        with torch.random.fork_rng(
            devices=None if self.gpu is None else [torch.cuda.current_device()]
        ):
            torch.set_rng_state(self.cpu)
            if self.gpu is not None:
                torch.cuda.set_rng_state(self.gpu)
            yield
