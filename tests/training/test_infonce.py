from __future__ import annotations

import math

import pytest
import torch
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

from modernpubmed.training.infonce import InfoNCELoss, info_nce


def by_hand(queries: torch.Tensor, documents: torch.Tensor, temperature: float) -> float:
    total = 0.0
    for i, query in enumerate(queries):
        scores = [
            float(query @ document / (query.norm() * document.norm())) / temperature
            for document in documents
        ]
        total -= scores[i] - math.log(sum(math.exp(score) for score in scores))
    return total / len(queries)


@pytest.mark.parametrize("temperature", [1.0, 0.05])
def test_equals_the_equation(temperature: float):
    generator = torch.Generator().manual_seed(1)
    queries, documents = torch.randn(2, 6, 5, generator=generator, dtype=torch.float64)
    forward = by_hand(queries, documents, temperature)
    backward = by_hand(documents, queries, temperature)
    assert info_nce(queries, documents, temperature=temperature).item() == pytest.approx(forward)
    both = info_nce(queries, documents, temperature=temperature, symmetric=True).item()
    assert both == pytest.approx((forward + backward) / 2)


def test_equals_multiple_negatives_ranking_loss():
    class Given(torch.nn.Module):
        def forward(self, features):
            return {"sentence_embedding": features["vectors"]}

        def __getattr__(self, name):
            return super().__getattr__(name)

    generator = torch.Generator().manual_seed(2)
    columns = [
        {"vectors": torch.randn(8, 16, generator=generator, dtype=torch.float64)} for _ in range(2)
    ]
    theirs = MultipleNegativesRankingLoss(Given(), scale=20.0)(columns, torch.empty(0))
    ours = InfoNCELoss(Given(), temperature=0.05, symmetric=False)(columns, torch.empty(0))
    assert ours.item() == pytest.approx(theirs.item(), abs=1e-12)


def test_the_gradient_pulls_the_pair_together_and_the_rest_apart():
    torch.manual_seed(3)
    queries = torch.randn(8, 4, dtype=torch.float64, requires_grad=True)
    documents = torch.randn(8, 4, dtype=torch.float64)
    before = info_nce(queries, documents, temperature=0.1)
    before.backward()
    after = info_nce(queries - 0.01 * queries.grad, documents, temperature=0.1)
    assert after < before
    assert torch.autograd.gradcheck(
        lambda q: info_nce(q, documents, temperature=0.5, symmetric=True), (queries,)
    )
