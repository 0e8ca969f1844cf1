from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from sentence_transformers.sentence_transformer.losses import (
    MatryoshkaLoss,
    MultipleNegativesRankingLoss,
)

from modernpubmed.training.infonce import Objective, Vectors, info_nce


def random(*shape: int, seed: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def vectors(size: int = 6, width: int = 5, hard: int = 0, contrasts: bool = False) -> Vectors:
    parts = random(3 * size + hard * size, width).split([size, size, hard * size, size])
    return Vectors(parts[0], parts[1], parts[2], parts[3] if contrasts else parts[3][:0])


def by_hand(queries, candidates, answers, temperature: float, left_out=frozenset()) -> float:
    total = 0.0
    for i, query in enumerate(queries):
        scores = {
            j: float(query @ candidate / (query.norm() * candidate.norm())) / temperature
            for j, candidate in enumerate(candidates)
            if (i, j) not in left_out
        }
        total -= scores[answers[i]] - math.log(sum(math.exp(score) for score in scores.values()))
    return total / len(queries)


@pytest.mark.parametrize("temperature", [1.0, 0.05])
def test_equals_the_equation(temperature: float):
    given = vectors()
    forward = by_hand(given.queries, given.documents, range(6), temperature)
    backward = by_hand(given.documents, given.queries, range(6), temperature)
    one = info_nce(given, Objective(temperature))
    both = info_nce(given, Objective(temperature, symmetric=True))
    assert one.loss.item() == pytest.approx(forward)
    assert both.loss.item() == pytest.approx((forward + backward) / 2)


def test_hard_documents_and_contrast_queries_are_candidates_of_one_direction_each():
    given = vectors(hard=2, contrasts=True)
    documents = torch.cat([given.documents, given.hard_documents])
    queries = torch.cat([given.queries, given.hard_queries])
    forward = by_hand(given.queries, documents, range(6), 0.1)
    backward = by_hand(given.documents, queries, range(6), 0.1)
    loss = info_nce(given, Objective(0.1, symmetric=True)).loss.item()
    assert loss == pytest.approx((forward + backward) / 2)
    assert info_nce(given, Objective(0.1)).loss.item() == pytest.approx(forward)


def test_related_candidates_are_left_out():
    given = vectors(hard=1)
    left_out = {(0, 1), (1, 0), (2, 6), (5, 11)}
    related = torch.zeros(6, 12, dtype=torch.bool)
    for i, j in left_out:
        related[i, j] = True
    documents = torch.cat([given.documents, given.hard_documents])
    expected = by_hand(given.queries, documents, range(6), 0.1, left_out)
    assert info_nce(given, Objective(0.1), related=related).loss.item() == pytest.approx(expected)
    assert info_nce(given, Objective(0.1)).loss.item() > expected


def test_accuracy_counts_queries_that_find_their_document():
    queries = torch.eye(4)
    documents = torch.eye(4)[[0, 1, 3, 2]]
    outcome = info_nce(Vectors.of_pairs(queries, documents), Objective(0.05))
    assert outcome.accuracy.item() == 0.5


class Given(torch.nn.Module):
    """A model whose embeddings are its features."""

    def forward(self, features):
        return {"sentence_embedding": features["vectors"]}

    def get_embedding_dimension(self) -> int:
        return 16


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("hard", [0, 1, 3])
def test_equals_multiple_negatives_ranking_loss(symmetric: bool, hard: int):
    given = vectors(8, 16, hard=hard)
    columns = [given.queries, given.documents]
    columns += [given.hard_documents[k::hard] for k in range(hard)]
    directions = ("query_to_doc", "doc_to_query") if symmetric else ("query_to_doc",)
    theirs = MultipleNegativesRankingLoss(
        Given(), scale=20.0, directions=directions, partition_mode="per_direction"
    )([{"vectors": column} for column in columns], torch.empty(0))
    ours = info_nce(given, Objective(0.05, symmetric=symmetric))
    assert ours.loss.item() == pytest.approx(theirs.item(), abs=1e-12)


def test_equals_matryoshka_loss():
    given = vectors(8, 16)
    dims = [16, 8, 4]
    model = Given()
    theirs = MatryoshkaLoss(model, MultipleNegativesRankingLoss(model, scale=20.0), dims)
    columns = [{"vectors": given.queries}, {"vectors": given.documents}]
    summed = theirs(columns, torch.empty(0)).item()
    ours = info_nce(given, Objective(0.05, matryoshka=(8, 4))).loss.item()
    assert ours == pytest.approx(summed / len(dims), abs=1e-12)


def test_distillation_is_the_divergence_from_the_teacher_and_zero_from_oneself():
    given, teacher = vectors(), vectors()
    teacher = dataclasses.replace(teacher, queries=teacher.queries.roll(1, 0))
    plain = info_nce(given, Objective(0.1)).loss
    itself = info_nce(given, Objective(0.1, distillation=2.0), teacher=given).loss
    assert itself.item() == pytest.approx(plain.item())
    unit = torch.nn.functional.normalize
    probabilities = [
        torch.softmax(unit(v.queries) @ unit(v.documents).T / 0.1, dim=1) for v in (teacher, given)
    ]
    divergence = (probabilities[0] * (probabilities[0] / probabilities[1]).log()).sum(1).mean()
    loss = info_nce(given, Objective(0.1, distillation=2.0), teacher=teacher).loss
    assert loss.item() == pytest.approx((plain + 2 * divergence).item())


def test_the_gradient_pulls_the_pair_together_and_the_rest_apart():
    given = vectors(8, 4)
    queries = given.queries.clone().requires_grad_()
    before = info_nce(dataclasses.replace(given, queries=queries), Objective(0.1)).loss
    before.backward()
    moved = dataclasses.replace(given, queries=given.queries - 0.01 * queries.grad)
    assert info_nce(moved, Objective(0.1)).loss < before
    objective = Objective(0.5, symmetric=True, matryoshka=(2,))
    assert torch.autograd.gradcheck(
        lambda q: info_nce(dataclasses.replace(given, queries=q), objective).loss, (queries,)
    )


def test_bf16_vectors_are_compared_in_fp32():
    queries = torch.tensor([[1.0, 0.001], [0.0, 1.0]], dtype=torch.bfloat16)
    outcome = info_nce(Vectors.of_pairs(queries, queries), Objective(0.05))
    assert outcome.loss.dtype == torch.float32
