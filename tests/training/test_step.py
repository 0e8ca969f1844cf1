from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.losses import (
    CachedMultipleNegativesRankingLoss,
    GISTEmbedLoss,
)

from modernpubmed.training.assemble import chunked
from modernpubmed.training.infonce import Objective
from modernpubmed.training.step import Judges, gradient

TEXTS = [
    "fever and cough", "acute kidney failure in children", "heart", "insulin dose after surgery",
    "chronic liver disease", "stroke risk", "cough of a patient with asthma and fever",
    "high blood pressure", "cancer therapy trial", "low glucose in diabetes", "infection",
    "mortality",
    "high dose", "blood", "acute", "outcome",
]  # fmt: skip


@pytest.fixture
def model(tiny_model: Path) -> SentenceTransformer:
    return SentenceTransformer(str(tiny_model), device="cpu").double()


def batch(
    model: SentenceTransformer, *, hard: int = 0, contrast: bool = False, chunk: int = 24
) -> dict:
    size = 4
    count = size * (2 + hard + contrast)
    ids = [model.tokenizer(text)["input_ids"] for text in TEXTS[:count]]
    slots = list(range(count))
    if hard:  # the second pair lacks its negative
        del ids[2 * size + 1], slots[2 * size + 1]
    chunks, order = chunked(ids, chunk, pad=0)
    related = torch.zeros(size, size * (1 + hard), dtype=torch.bool)
    if hard:
        related[:, size + 1] = True
    return {
        "chunks": chunks,
        "slots": torch.tensor(slots)[order],
        "parts": [size, size, size * hard, size * contrast],
        "related": related,
        "related_queries": torch.zeros(size, size * (1 + contrast), dtype=torch.bool),
        "masked": {},
        "padded": sum(chunk["input_ids"].numel() for chunk in chunks),
    }


def gradients(model: SentenceTransformer) -> dict[str, torch.Tensor]:
    found = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return found


@pytest.mark.parametrize(
    "objective",
    [
        Objective(0.05),
        Objective(0.05, symmetric=True, matryoshka=(16, 4)),
        Objective(0.05, symmetric=True, distillation=0.3),
    ],
)
@pytest.mark.parametrize("train", [False, True])
def test_cached_gradients_equal_uncached_ones(
    model: SentenceTransformer, tiny_model: Path, objective: Objective, train: bool
):
    """To 1e-6 and better in fp64, with dropout as well: it draws the same numbers twice."""
    given = batch(model, hard=1, contrast=objective.symmetric and not objective.distillation)
    teacher = SentenceTransformer(str(tiny_model), device="cpu").double().eval()
    model.train(train)
    results, found = [], []
    for memory in (10_000, 24):
        torch.manual_seed(5)
        results.append(
            gradient(model, given, objective, memory_tokens=memory, judges=Judges(teacher=teacher))
        )
        found.append(gradients(model))
    assert (results[0].cached, results[1].cached) == (False, True)
    assert results[1].loss.item() == pytest.approx(results[0].loss.item(), abs=1e-12)
    assert found[0].keys() == found[1].keys()
    assert any(values.abs().max() > 1e-3 for values in found[0].values())
    for name, values in found[0].items():
        torch.testing.assert_close(found[1][name], values, atol=1e-9, rtol=0, msg=name)


def test_cached_gradients_equal_those_of_sentence_transformers(model: SentenceTransformer):
    model.eval()
    gradient(model, batch(model), Objective(0.05), memory_tokens=24)
    ours = gradients(model)
    columns = [
        model.tokenizer(TEXTS[part], padding=True, return_tensors="pt")
        for part in (slice(0, 4), slice(4, 8))
    ]
    theirs = CachedMultipleNegativesRankingLoss(model, scale=20.0, mini_batch_size=2)
    theirs([dict(column) for column in columns], torch.empty(0)).backward()
    expected = gradients(model)
    assert set(expected) <= set(ours)
    for name, values in expected.items():
        torch.testing.assert_close(ours[name], values, atol=1e-9, rtol=0, msg=name)


def test_how_texts_are_cut_into_chunks_does_not_matter(model: SentenceTransformer):
    model.eval()
    found = []
    for chunk in (1, 24, 10_000):
        given = batch(model, hard=1, chunk=chunk)
        gradient(model, given, Objective(0.05, symmetric=True), memory_tokens=10_000)
        found.append(gradients(model))
    for other in found[1:]:
        for name, values in found[0].items():
            torch.testing.assert_close(other[name], values, atol=1e-9, rtol=0, msg=name)


def test_devices_exchange_gradients_once_a_step(model: SentenceTransformer):
    quiet = []

    @contextmanager
    def silence():
        quiet.append(True)
        yield

    given = batch(model)
    gradient(model, given, Objective(0.05), memory_tokens=24, quiet=silence)
    assert len(quiet) == len(given["chunks"]) - 1 > 0


def test_the_guide_masks_what_gist_masks(model: SentenceTransformer, tiny_model: Path):
    torch.manual_seed(11)
    guide = SentenceTransformer(str(tiny_model), device="cpu").double().eval()
    for parameter in guide.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    model.eval()
    given = batch(model)
    judges = Judges(guide=guide)
    result = gradient(model, given, Objective(0.05), memory_tokens=10_000, judges=judges)
    vectors = [guide.encode(TEXTS[part], convert_to_tensor=True, normalize_embeddings=True)
               for part in (slice(0, 4), slice(4, 8))]  # fmt: skip
    similarity = vectors[0] @ vectors[1].T
    nearer = similarity > similarity.diag()[:, None] + 1e-12
    assert result.masked["guide"] == int(nearer.sum()) > 0
    # GISTEmbed also ranks queries among queries and documents among documents, so its loss is
    # another; what it masks between queries and documents is the same.
    columns = [
        dict(model.tokenizer(TEXTS[part], padding=True, return_tensors="pt"))
        for part in (slice(0, 4), slice(4, 8))
    ]
    theirs = GISTEmbedLoss(
        model, guide, temperature=0.05, contrast_anchors=False, contrast_positives=False
    )
    expected = theirs([dict(column) for column in columns], torch.empty(0)).item()
    assert result.loss.item() == pytest.approx(expected, abs=1e-6)


def test_a_wide_margin_never_masks_the_positive(model: SentenceTransformer, tiny_model: Path):
    guide = SentenceTransformer(str(tiny_model), device="cpu").double().eval()
    judges = Judges(guide=guide, guide_margin=2.0)
    result = gradient(model, batch(model), Objective(0.05), memory_tokens=10_000, judges=judges)
    assert result.masked["guide"] == 4 * 3
    assert result.loss.item() == pytest.approx(0.0)  # only the positives are left
