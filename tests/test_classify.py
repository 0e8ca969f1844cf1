"""Classification on embeddings; the solver is held to scikit-learn's."""

import hashlib
import math
from collections.abc import Sequence

import numpy as np
import pytest

from modernpubmed.classify import (
    STRENGTHS,
    Classifier,
    Example,
    accuracy,
    fit,
    hold_out,
    logistic_regression,
    macro_f1,
    read_examples,
    score,
    stratified_split,
)
from modernpubmed.errors import ModernPubMedError
from modernpubmed.manifest import Manifest

TOPICS = {
    "heart": "heart cardiac atrial valve aorta coronary".split(),
    "skin": "skin rash eczema dermal nail hair".split(),
    "bone": "bone fracture joint femur spine marrow".split(),
}


class BagOfWords:
    """Hashed words, L2-normalised."""

    name = "bag"
    dimension = 64
    truncated = 0
    fingerprint = hashlib.sha256(b"bag").hexdigest()

    def encode_document(self, texts: Sequence[str]) -> np.ndarray:
        vectors = np.full((len(texts), 64), 1e-3, dtype=np.float32)
        for row, text in enumerate(texts):
            for word in text.split():
                vectors[row, hashlib.sha256(word.encode()).digest()[0] % 64] += 1
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def examples(count, seed=0, noise=2):
    generator = np.random.default_rng(seed)
    everything = [word for words in TOPICS.values() for word in words]
    texts, labels = [], []
    for _ in range(count):
        for label, words in TOPICS.items():
            chosen = [*generator.choice(words, 3), *generator.choice(everything, noise)]
            texts.append(" ".join(chosen))
            labels.append(label)
    return texts, labels


def problem(n, d, k, seed=0):
    generator = np.random.default_rng(seed)
    classes = generator.permutation(np.arange(n) % k)
    centres = generator.normal(size=(k, d))
    vectors = 0.6 * centres[classes] + generator.normal(size=(n, d))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True), classes


@pytest.mark.parametrize("strength", STRENGTHS)
@pytest.mark.parametrize("balanced", [False, True])
@pytest.mark.parametrize(("n", "d", "k"), [(60, 20, 3), (300, 64, 5), (40, 60, 4)])
def test_coefficients_are_scikit_learns(n, d, k, strength, balanced):
    linear_model = pytest.importorskip("sklearn.linear_model")
    vectors, classes = problem(n, d, k)
    classes = np.where(np.arange(n) % 3 > 0, 0, classes) if balanced else classes
    weights = n / (k * np.bincount(classes))[classes] if balanced else None
    ours = logistic_regression(vectors, classes, k, strength, weights)
    theirs = linear_model.LogisticRegression(
        C=strength,
        solver="newton-cholesky",
        tol=1e-10,
        class_weight="balanced" if balanced else None,
    ).fit(vectors, classes)
    np.testing.assert_allclose(ours[0], theirs.coef_, atol=1e-5)
    np.testing.assert_allclose(ours[1], theirs.intercept_, atol=1e-5)


@pytest.mark.parametrize("strength", STRENGTHS)
def test_two_classes_are_scikit_learns_binary_model_at_twice_the_strength(strength):
    linear_model = pytest.importorskip("sklearn.linear_model")
    vectors, classes = problem(80, 30, 2)
    coefficients, intercepts = logistic_regression(vectors, classes, 2, strength)
    theirs = linear_model.LogisticRegression(C=2 * strength, solver="newton-cholesky", tol=1e-10)
    theirs.fit(vectors, classes)
    np.testing.assert_allclose(coefficients[1] - coefficients[0], theirs.coef_[0], atol=1e-5)
    np.testing.assert_allclose(intercepts[1] - intercepts[0], theirs.intercept_[0], atol=1e-5)


def test_metrics_are_scikit_learns():
    metrics = pytest.importorskip("sklearn.metrics")
    generator = np.random.default_rng(5)
    for count in (1, 4, 50):
        truth = generator.choice(list("abcd"), count).tolist()
        predicted = generator.choice(list("abce"), count).tolist()
        assert accuracy(truth, predicted) == pytest.approx(metrics.accuracy_score(truth, predicted))
        expected = metrics.f1_score(truth, predicted, average="macro", zero_division=0)
        assert macro_f1(truth, predicted) == pytest.approx(expected)


def test_it_learns_and_gives_probabilities():
    classifier = fit(*examples(20), BagOfWords())
    assert classifier.labels == ("bone", "heart", "skin")
    texts, labels = examples(30, seed=1)
    scores = score(classifier, texts, labels)
    assert scores.accuracy > 0.9
    assert scores.examples == 90
    probabilities = classifier.probabilities(texts)
    assert probabilities.shape == (90, 3)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    for label, row in zip(classifier.predict(texts), probabilities, strict=True):
        assert label.probability == row.max()
        assert label.label == classifier.labels[int(row.argmax())]
    assert classifier.manifest.counts == {"examples": 60, "truncated": 0}
    assert classifier.manifest.settings["strength"] in STRENGTHS
    assert classifier.manifest.settings["cross_validated_log_loss"] < math.log(3)


def test_more_noise_asks_for_a_stronger_penalty():
    clean = fit(*examples(20, noise=0), BagOfWords()).manifest.settings["strength"]
    texts, labels = examples(20)
    shuffled = np.random.default_rng(0).permutation(labels).tolist()
    assert fit(texts, shuffled, BagOfWords()).manifest.settings["strength"] < clean


def test_balanced_finds_more_of_a_rare_category():
    texts, labels = examples(40, noise=6)
    rare = [i for i, label in enumerate(labels) if label != "skin" or i < 10]
    texts, labels = [texts[i] for i in rare], [labels[i] for i in rare]
    new, _ = examples(60, seed=2, noise=6)
    found = {
        balanced: sum(
            label.label == "skin"
            for label in fit(texts, labels, BagOfWords(), balanced=balanced).predict(new)
        )
        for balanced in (False, True)
    }
    assert found[True] > found[False]


def test_two_examples_a_category_are_enough_and_fewer_are_not():
    texts, labels = examples(2)
    assert fit(texts, labels, BagOfWords()).labels == ("bone", "heart", "skin")
    with pytest.raises(ModernPubMedError, match=r"label 'skin' has 1 example\(s\), 2 are needed"):
        fit(texts[:4] + texts[5:], labels[:4] + labels[5:], BagOfWords())
    with pytest.raises(ModernPubMedError, match=r"the examples have 1 label\(s\)"):
        fit(["a", "b"], ["x", "x"], BagOfWords())
    with pytest.raises(ModernPubMedError, match=r"the examples have 0 label\(s\)"):
        fit([], [], BagOfWords())
    with pytest.raises(ModernPubMedError, match="2 texts and 1 labels"):
        fit(["a", "b"], ["x"], BagOfWords())
    with pytest.raises(ModernPubMedError, match="example 2: a blank text"):
        fit(["a", ""], ["x", "y"], BagOfWords())


def test_save_and_load(tmp_path):
    classifier = fit(*examples(5), BagOfWords())
    classifier.save(tmp_path / "c")
    classifier.save(tmp_path / "c")  # its own kind is replaced
    assert sorted(child.name for child in (tmp_path / "c").iterdir()) == [
        "manifest.json",
        "weights.npz",
    ]
    loaded = Classifier.load(tmp_path / "c", BagOfWords())
    texts, _ = examples(5, seed=4)
    assert loaded.predict(texts) == classifier.predict(texts)
    assert loaded.manifest.settings == classifier.manifest.settings

    other = BagOfWords()
    other.name, other.fingerprint = "other", "0"
    with pytest.raises(ModernPubMedError, match="with the encoder bag, not with this other"):
        Classifier.load(tmp_path / "c", other)


def test_bad_folders(tmp_path):
    with pytest.raises(ModernPubMedError, match="no readable manifest"):
        Classifier.load(tmp_path / "none", BagOfWords())
    classifier = fit(*examples(2), BagOfWords())
    (tmp_path / "thesis.txt").write_text("work")
    with pytest.raises(ModernPubMedError, match="something else than a classifier"):
        classifier.save(tmp_path)
    assert (tmp_path / "thesis.txt").exists()
    path = tmp_path / "c"
    classifier.save(path)
    (path / "weights.npz").write_bytes(b"PK")
    with pytest.raises(ModernPubMedError, match="unreadable weights"):
        Classifier.load(path, BagOfWords())
    np.savez(path / "weights.npz", coefficients=np.zeros((2, 64)), intercepts=np.zeros(2))
    with pytest.raises(ModernPubMedError, match="do not belong to these labels"):
        Classifier.load(path, BagOfWords())
    Manifest("index").write(path)
    with pytest.raises(ModernPubMedError, match="not a classifier but index"):
        Classifier.load(path, BagOfWords())


def test_stratified_split():
    labels = ["a"] * 50 + ["b"] * 10 + ["c"] * 3
    held = stratified_split(labels, 0.2)
    assert [[labels[i] for i in held].count(label) for label in "abc"] == [10, 2, 1]
    assert len(set(held)) == len(held)
    assert stratified_split(labels, 0.2, seed=1) != held
    for fraction in (0, 1, -1):
        with pytest.raises(ModernPubMedError, match="cannot be held out"):
            stratified_split(labels, fraction)


def test_hold_out_fits_on_the_rest():
    texts, labels = examples(30)
    scores = hold_out(texts, labels, BagOfWords())
    assert scores.examples == 18
    assert scores.accuracy > 0.8
    assert scores.macro_f1 == pytest.approx(scores.accuracy, abs=0.1)
    # Texts that say nothing of their label score as guessing does: nothing leaks.
    guessed = hold_out([f"word{i}" for i in range(300)], ["a", "b", "c"] * 100, BagOfWords())
    assert guessed.accuracy < 0.55
    with pytest.raises(ModernPubMedError, match="3 are needed"):
        hold_out(*examples(2), BagOfWords())


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("e.tsv", 'label\tid\ttext\nA\t1\tsays "no", twice\n\nB\t2\tfièvre\n'),
        ("e.csv", 'text,label\r\n"says ""no"", twice",A\r\nfièvre,B\r\n'),
        (
            "e.jsonl",
            '{"text": "says \\"no\\", twice", "label": "A"}\n\n{"text":"fièvre","label":"B"}',
        ),
    ],
)
def test_read_examples(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content.encode())
    assert read_examples(path) == [Example('says "no", twice', "A"), Example("fièvre", "B")]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("e.tsv", b"text\tcategory\n", r"e\.tsv: line 1: the header does not name"),
        ("e.tsv", b"", r"line 1: the header does not name"),
        ("e.tsv", b"text\tlabel\n", r"no examples in it"),
        ("e.tsv", b"text\tlabel\na\tA\nb\n", r"line 3: 1 columns where the header has 2"),
        ("e.csv", b"text,label\na,b,A\n", r"line 2: 3 columns where the header has 2"),
        ("e.csv", b'text,label\n"a"x,A\n', r"after line 1: cannot be read"),
        ("e.csv", b"text,label\n ,A\n", r"line 2: no text"),
        ("e.csv", b"text,label\na,\n", r"line 2: no label"),
        ("e.csv", b"text,label\n\xff,A\n", r"after line \d: cannot be read"),
        ("e.jsonl", b'{"text": "a", "label": "A"}\n{', r"line 2: not JSON"),
        ("e.jsonl", b'"a"', r"line 1: not a JSON object"),
        ("e.jsonl", b'{"text": "a"}', r"line 1: no label"),
        ("e.jsonl", b'{"text": "a", "label": 3}', r"line 1: no label"),
        ("e.xlsx", b"", r"not in '\.xlsx'"),
    ],
)
def test_bad_examples(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ModernPubMedError, match=message) as caught:
        read_examples(path)
    assert caught.value.remedy
    assert "\n" not in str(caught.value)


def test_missing_examples(tmp_path):
    for ending in ("tsv", "csv", "jsonl"):
        with pytest.raises(ModernPubMedError, match="cannot be read"):
            read_examples(tmp_path / f"none.{ending}")
