from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from modernpubmed.errors import ModernPubMedError
from modernpubmed.evaluation import evaluate
from modernpubmed.evaluation.vectors import Encoded, cached

TEXTS = ("fever", "cough")


def made(value: float) -> Encoded:
    return Encoded(np.full((2, 3), value, np.float32), 1, 0.25)


def keep(folder: Path, value: float, **other: object) -> Encoded:
    given = {"texts": TEXTS, "fingerprint": "f", "role": "document", "prompt": "", **other}
    texts = given.pop("texts")
    return cached(lambda: made(value), texts, folder, **given)


def test_kept_and_found_again(tmp_path: Path) -> None:
    keep(tmp_path / "new", 1)
    again = keep(tmp_path / "new", 2)
    assert again.vectors.tolist() == [[1.0] * 3] * 2
    assert again.vectors.dtype == np.float32
    assert (again.truncated, again.seconds) == (1, 0.25)
    assert len(list((tmp_path / "new").iterdir())) == 1


@pytest.mark.parametrize(
    "other",
    [
        {"fingerprint": "g"},
        {"role": "query"},
        {"prompt": "query: "},
        {"max_tokens": 64},
        {"texts": ("cough", "fever")},
        {"texts": ("fev", "ercough")},
        {"texts": ("fever\x00cough", "")},
    ],
)
def test_whatever_decides_the_vectors_decides_the_file(other: dict, tmp_path: Path) -> None:
    keep(tmp_path, 1)
    assert keep(tmp_path, 2, **other).vectors[0, 0] == 2
    assert keep(tmp_path, 3).vectors[0, 0] == 1


def test_damaged_files_are_made_again(tmp_path: Path) -> None:
    keep(tmp_path, 1)
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    place = whole.index(np.float32(1).tobytes() * 6)
    one_bit = bytearray(whole)
    one_bit[place + 5] ^= 1
    value = 2.0
    for spoilt in (whole[:-40], b"", b"no archive", bytes(one_bit)):
        file.write_bytes(spoilt)
        assert keep(tmp_path, value).vectors[0, 0] == value
        assert keep(tmp_path, 99).vectors[0, 0] == value  # and kept
        value += 1
    np.savez(file.open("wb"), vectors=np.ones((3, 3), np.float32), truncated=0, seconds=0.0)
    assert keep(tmp_path, 7).vectors.shape == (2, 3)
    np.savez(file.open("wb"), vectors=np.array([{}]), truncated=0, seconds=0.0)
    assert keep(tmp_path, 8).vectors[0, 0] == 8  # what would need pickle is not read


def test_nothing_is_kept_of_what_fails(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        cached(lambda: 1 / 0, TEXTS, tmp_path, fingerprint="f", role="query")
    assert list(tmp_path.iterdir()) == []


def test_an_evaluation_encodes_the_documents_once(bag, suite, tmp_path: Path) -> None:
    encoder = bag()
    first = evaluate(encoder, suite, vectors=tmp_path)
    assert encoder.calls == [3, 3]
    seen = []
    again = evaluate(encoder, suite, vectors=tmp_path, progress=lambda *step: seen.append(step))
    assert encoder.calls == [3, 3]
    assert seen == [("queries of tiny", 3, 3), ("documents of tiny", 3, 3)]
    assert (again.per_query, again.truncated_queries) == (first.per_query, 1)
    assert again.document_seconds == first.document_seconds
    typos = replace(suite, queries=("acute fevre", *suite.queries[1:]))
    evaluate(encoder, typos, vectors=tmp_path)
    assert encoder.calls == [3, 3, 3]


def test_vectors_that_are_not_finite_are_not_kept(bag, suite, tmp_path: Path) -> None:
    class Broken(bag):
        def encode_document(self, texts):
            return self.encode(texts) * np.nan

    with pytest.raises(ModernPubMedError, match="documents 'd1', 'd2', 'd3' and 1 more"):
        evaluate(Broken(), suite, vectors=tmp_path)
    assert len(list(tmp_path.iterdir())) == 1  # the queries
