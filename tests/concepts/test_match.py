"""Matching mentions, with an encoder of character trigrams instead of a model."""

import hashlib
from collections.abc import Sequence

import numpy as np
import pytest

from modernpubmed.concepts import Concept, Synonym, build_matcher, normalise
from modernpubmed.concepts import match as match_module
from modernpubmed.concepts.match import distinct_forms
from modernpubmed.errors import ModernPubMedError
from modernpubmed.manifest import Manifest


class Trigrams:
    """Hashed character trigrams, L2-normalised."""

    dimension = 256
    truncated = 0

    def __init__(self, salt: str = "") -> None:
        self.name, self.salt, self.encoded = f"trigrams{salt}", salt, 0
        self.fingerprint = hashlib.sha256(self.name.encode()).hexdigest()

    def encode_document(self, texts: Sequence[str]) -> np.ndarray:
        self.encoded += len(texts)
        vectors = np.zeros((len(texts), self.dimension), dtype=np.float32)
        for row, text in enumerate(texts):
            padded = f"  {text.lower()} "
            for start in range(len(padded) - 2):
                digest = hashlib.sha256((self.salt + padded[start : start + 3]).encode()).digest()
                vectors[row, digest[0]] += 1
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


CONCEPTS = (
    Concept("X:1", "Atrial septal defect", (Synonym("ASD"), Synonym("Hole in the heart", "BROAD"))),
    Concept("X:2", "Autism", (Synonym("ASD", "RELATED"), Synonym("Autistic behaviour"))),
    Concept("X:3", "Non-Hodgkin’s lymphoma"),
    Concept("X:4", "Tall stature", (Synonym("Increased body height"),)),
    Concept("X:5", "Asd", (Synonym("Invented"),)),
)


def test_exact_match_comes_first_with_score_one():
    answer = build_matcher(CONCEPTS, Trigrams()).match("non hodgkins LYMPHOMA", k=2)
    first, second = answer.matches
    assert (first.curie, first.name, first.form) == ("X:3", *["Non-Hodgkin’s lymphoma"] * 2)
    assert (first.scope, first.score, first.kind) == ("NAME", 1.0, "exact")
    assert second.kind == "embedding"
    assert second.score < 1
    assert answer.best_below is None


def test_homonyms_are_all_returned_nearest_scope_first():
    matches = build_matcher(CONCEPTS, Trigrams()).match("asd", k=5).matches
    assert [(m.curie, m.form, m.scope, m.kind) for m in matches[:3]] == [
        ("X:5", "Asd", "NAME", "exact"),
        ("X:1", "ASD", "EXACT", "exact"),
        ("X:2", "ASD", "RELATED", "exact"),
    ]
    assert {m.curie for m in matches} == {"X:1", "X:2", "X:3", "X:4", "X:5"}
    assert [m.curie for m in build_matcher(CONCEPTS, Trigrams()).match("asd", k=1).matches] == [
        "X:5"
    ]


def test_embedding_scores_are_the_maximum_over_a_concepts_forms():
    encoder = Trigrams()
    generator = np.random.default_rng(1)
    words = "heart knee small large absent fused short broad toe finger skin nail".split()
    forms = [" ".join(generator.choice(words, 3)) for _ in range(300)]
    concepts = [
        Concept(f"X:{n}", forms[3 * n], tuple(Synonym(f) for f in forms[3 * n + 1 : 3 * n + 3]))
        for n in range(100)
    ]
    matcher = build_matcher(concepts, encoder)
    mentions = ["a broad big toe", "fusion of fingers", "hearts"] * 120  # more than one block
    answers = matcher.match_many(mentions, k=7)
    assert [answer.mention for answer in answers] == mentions
    for mention, answer in zip(mentions[:3], answers[:3], strict=True):
        query = encoder.encode_document([mention])[0]
        scored = []
        for concept in concepts:
            own = [concept.name, *(synonym.text for synonym in concept.synonyms)]
            scores = encoder.encode_document(own) @ query
            scored.append((float(scores.max()), own[int(scores.argmax())], concept.curie))
        scored.sort(key=lambda item: -item[0])
        np.testing.assert_allclose(
            [m.score for m in answer.matches], [s for s, _, _ in scored[:7]], atol=1e-6
        )
        assert len({m.curie for m in answer.matches}) == 7
        by_curie = {curie: (score, form) for score, form, curie in scored}
        for m in answer.matches:
            assert m.score == pytest.approx(by_curie[m.curie][0], abs=1e-6)
            assert m.form == by_curie[m.curie][1]
        assert answer == answers[mentions.index(mention) + 3]


def test_threshold_says_no_concept_and_what_was_nearest():
    matcher = build_matcher(CONCEPTS, Trigrams())
    everything = matcher.match("xylophone concert", k=3)
    assert len(everything.matches) == 3
    refused = matcher.match("xylophone concert", k=3, threshold=0.9)
    assert refused.matches == ()
    assert refused.best_below == everything.matches[0]
    some = matcher.match("tall statures", k=5, threshold=0.5)
    assert [m.curie for m in some.matches] == ["X:4"]
    assert some.best_below is None
    # A threshold never refuses the very same string.
    assert matcher.match("tall stature", threshold=1.0).matches[0].curie == "X:4"


def test_shared_forms_are_encoded_once_and_progress_is_told(monkeypatch):
    monkeypatch.setattr(match_module, "_ENCODED_AT_ONCE", 4)
    encoder, told = Trigrams(), []
    build_matcher(CONCEPTS, encoder, report=lambda done, total: told.append((done, total)))
    assert distinct_forms(CONCEPTS) == [
        "Atrial septal defect",
        "ASD",
        "Hole in the heart",
        "Autism",
        "Autistic behaviour",
        "Non-Hodgkin’s lymphoma",
        "Tall stature",
        "Increased body height",
        "Asd",
        "Invented",
    ]
    assert encoder.encoded == 10
    assert told == [(4, 10), (8, 10), (10, 10)]


def test_cache_is_keyed_by_forms_and_encoder(tmp_path):
    first = Trigrams()
    answer = build_matcher(CONCEPTS, first, cache=tmp_path).match("defect", k=3)
    assert first.encoded == 11
    again = Trigrams()
    assert build_matcher(CONCEPTS, again, cache=tmp_path).match("defect", k=3) == answer
    assert again.encoded == 1  # the mention alone
    (entry,) = tmp_path.iterdir()
    manifest = Manifest.read(entry)
    assert manifest.kind == "vectors"
    assert manifest.counts == {"concepts": 5, "forms": 10, "truncated": 0}
    build_matcher(CONCEPTS, Trigrams("other"), cache=tmp_path)
    build_matcher(CONCEPTS[:3], first, cache=tmp_path)
    assert len(list(tmp_path.iterdir())) == 3
    assert all(not child.name.startswith(".") for child in tmp_path.iterdir())


def test_damaged_caches(tmp_path):
    build_matcher(CONCEPTS, Trigrams(), cache=tmp_path)
    (entry,) = tmp_path.iterdir()
    vectors = entry / "vectors.npy"
    good = vectors.read_bytes()
    vectors.write_bytes(good[:100])
    with pytest.raises(ModernPubMedError, match="unreadable"):
        build_matcher(CONCEPTS, Trigrams(), cache=tmp_path)
    np.save(vectors, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(ModernPubMedError, match="unreadable"):
        build_matcher(CONCEPTS, Trigrams(), cache=tmp_path)
    np.save(vectors, np.zeros((3, 256), dtype=np.float32))
    with pytest.raises(ModernPubMedError, match=r"shape \(3, 256\) where \(10, 256\) is due"):
        build_matcher(CONCEPTS, Trigrams(), cache=tmp_path)
    vectors.write_bytes(good)
    manifest = Manifest.read(entry)
    Manifest("vectors", inputs={"forms": "x"}).write(entry)
    with pytest.raises(ModernPubMedError, match="the vectors of other concepts"):
        build_matcher(CONCEPTS, Trigrams(), cache=tmp_path)
    manifest.write(entry)
    build_matcher(CONCEPTS, Trigrams(), cache=tmp_path)


def test_an_interrupted_build_leaves_no_cache(tmp_path):
    def interrupt(_done, _total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_matcher(CONCEPTS, Trigrams(), cache=tmp_path, report=interrupt)
    assert list(tmp_path.iterdir()) == []


def test_bad_questions():
    matcher = build_matcher(CONCEPTS, Trigrams())
    with pytest.raises(ModernPubMedError, match="mention 2: a blank mention"):
        matcher.match_many(["autism", " "])
    with pytest.raises(ModernPubMedError, match="k is 0"):
        matcher.match("autism", k=0)
    with pytest.raises(ModernPubMedError, match="no concepts"):
        build_matcher([], Trigrams())
    assert matcher.match_many([]) == []
    # More than there are: all of them, once each.
    assert len(matcher.match("autism", k=50).matches) == 5


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("Type 2  Diabetes", "type-2 diabetes", True),
        ("STRASSE", "straße", True),
        ("\ufb01brosis", "fibrosis", True),
        ("alpha–beta", "alpha-beta", True),
        ("Parkinson's disease", "Parkinson’s disease", True),
        ("pain, left (arm)", "pain left arm", True),
        ("CD4+", "CD4-", False),
        ("HbA1c > 7", "HbA1c < 7", False),
        ("grade 1", "grade 2", False),
    ],
)
def test_normalise(one, other, same):
    assert (normalise(one) == normalise(other)) is same
