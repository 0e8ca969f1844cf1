from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from modernpubmed.pairs import write_pairs
from modernpubmed.records import Pair
from modernpubmed.training.assemble import Layout, assemble, chunked, relations
from modernpubmed.training.tokens import Form, Tokens, tokenise
from modernpubmed.training.train import tokenizer_of

LAYOUT = Layout(pad=0, chunk_tokens=64, negatives=0, contrast=False, mesh_overlap=0.5)
MESH = ("Humans", "Gout", "Colchicine", "Uric Acid")
PAIRS = [
    Pair("heart failure", "insulin therapy of heart failure in children with fever", pmid=1),
    # The same abstract but for case and a stop: a near-duplicate of row 0.
    Pair(
        "failure of the heart", "Insulin therapy of heart failure in children with fever.", pmid=2
    ),
    Pair("a comment", "a letter on the treatment of heart failure", pmid=3, links=(1,)),
    Pair("gout", "colchicine for high uric acid", pmid=4, mesh=MESH),
    Pair("uric acid", "a cohort of patients with gout", pmid=5, mesh=(*MESH, "Allopurinol")),
    Pair("Heart failure.", "mortality after surgery", pmid=6),
    Pair("cough", "asthma in children", concept="X:1"),
    Pair("fever", "asthma of the children", concept="X:1"),
    Pair("stroke", "blood pressure and stroke", pmid=8, mesh=("Humans", "Stroke")),
]


@pytest.fixture(scope="module")
def tokens(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Tokens:
    folder = tmp_path_factory.mktemp("assemble")
    write_pairs(PAIRS, folder / "train.parquet")
    model = SentenceTransformer(str(tiny_model), device="cpu")
    form = Form(tokenizer_of(model, "tiny"), 12, 24)
    return tokenise(folder / "train.parquet", "x", form, folder / "cache", workers=1)


def test_each_reason_masks_what_it_should(tokens: Tokens):
    everyone = np.arange(len(PAIRS))
    related, masked = relations(tokens, everyone, slice(0, len(PAIRS)), 0.5)
    found = {(int(i), int(j)) for i, j in zip(*np.nonzero(related), strict=True)}
    expected = {(0, 1), (0, 2), (3, 4), (0, 5), (6, 7)}
    assert found == expected | {(j, i) for i, j in expected}
    assert masked == {
        "near-duplicate": 2,
        "linked": 2,
        "MeSH": 2,
        "same text": 2,
        "same article": 2,
    }
    strict, masked = relations(tokens, everyone, slice(0, len(PAIRS)), 0.9)
    assert not strict[3, 4]
    assert "MeSH" not in masked


def test_a_share_sees_its_rows_of_the_whole(tokens: Tokens):
    everyone = np.arange(8)
    whole, _ = relations(tokens, everyone, slice(0, 8), 0.5)
    part, _ = relations(tokens, everyone, slice(4, 8), 0.5)
    np.testing.assert_array_equal(part, whole[4:])


def test_a_batch_holds_every_text_once_in_its_slot(tokens: Tokens):
    rows = np.array([8, 3, 0])
    batch = assemble(tokens, [rows], 0, LAYOUT)
    texts = {}
    place = 0
    for chunk in batch["chunks"]:
        for ids, mask in zip(chunk["input_ids"], chunk["attention_mask"], strict=True):
            texts[int(batch["slots"][place])] = ids[mask.bool()].tolist()
            assert not ids[~mask.bool()].any()
            place += 1
    expected = [tokens.anchor.row(row) for row in rows] + [tokens.positive.row(row) for row in rows]
    assert texts == {slot: ids.tolist() for slot, ids in enumerate(expected)}
    assert batch["parts"] == [3, 3, 0, 0]
    assert batch["tokens"] == sum(len(ids) for ids in expected)
    assert batch["padded"] >= batch["tokens"]
    assert batch["related"].shape == (3, 3)


def test_padding_is_under_five_percent_at_the_lengths_of_abstracts():
    random = np.random.default_rng(1)
    wasted = real = 0
    for _ in range(20):
        lengths = np.clip(random.lognormal(5.65, 0.42, 72), 30, 512).astype(int)
        titles = np.clip(random.lognormal(3.0, 0.35, 72), 6, 64).astype(int)
        texts = [np.ones(n, dtype=np.uint32) for n in (*lengths, *titles)]
        chunks, order = chunked(texts, 2_048, 0)
        assert sorted(order.tolist()) == list(range(144))
        real += int(sum(len(text) for text in texts))
        wasted += sum(chunk["input_ids"].numel() for chunk in chunks)
        assert all(c["input_ids"].numel() <= 2_048 for c in chunks)
    assert 1 - real / wasted < 0.05


def test_a_text_longer_than_a_chunk_is_a_chunk_of_its_own():
    chunks, order = chunked([np.ones(5), np.ones(300), np.ones(290)], 256, 0)
    assert [tuple(chunk["input_ids"].shape) for chunk in chunks] == [(1, 300), (1, 290), (1, 5)]
    assert order.tolist() == [1, 2, 0]
