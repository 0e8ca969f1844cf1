"""Texts into categories, from labelled examples and the vectors of an encoder.

The model is multinomial logistic regression with an L2 penalty: one linear layer over frozen
embeddings, the usual linear probe. It is convex, so that there is one answer and no seed; it needs
two examples a category and gains from every further one. The penalty is chosen by stratified
cross-validation on the examples.

The solver is our own L-BFGS (Nocedal & Wright, Numerical Optimization, 2nd ed., algorithms 7.4 and
7.5) in numpy: scikit-learn would bring scipy into the core for these sixty lines. The objective is
scikit-learn's, and a test holds the coefficients to scikit-learn's ``LogisticRegression``. Given
up: fine-tuning the encoder itself, and several labels a text.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from modernpubmed.errors import ModernPubMedError
from modernpubmed.lines import json_lines, table_rows
from modernpubmed.manifest import MANIFEST_NAME, Manifest, refuse_other_files, replacing
from modernpubmed.protocols import DocumentEncoder

#: Values of C (the inverse of the penalty, as in scikit-learn) that are tried. Embeddings have
#: length 1, so useful coefficients are large and useful C lie above scikit-learn's default of 1.
STRENGTHS = (0.1, 1.0, 10.0, 100.0, 1000.0)

_KIND = "classifier"
_WEIGHTS_NAME = "weights.npz"
_FOLDS = 5
_SEED = 13

Matrix = NDArray[np.float64]


class Example(NamedTuple):
    """A text and its category."""

    text: str
    label: str


@dataclass(frozen=True, slots=True)
class Label:
    """A predicted category, with its probability in (0, 1)."""

    label: str
    probability: float


@dataclass(frozen=True, slots=True)
class Scores:
    """How well a classifier does on texts it was not fitted on.

    Attributes:
        accuracy: Share of texts given their own label.
        macro_f1: F1 averaged over the categories, each counting the same.
        examples: Number of texts.
    """

    accuracy: float
    macro_f1: float
    examples: int


@dataclass(frozen=True, slots=True)
class Classifier:
    """A fitted classifier; made by ``fit`` or ``Classifier.load``.

    Attributes:
        labels: The K categories, sorted.
        coefficients: [K, d].
        intercepts: [K].
        encoder: The encoder it was fitted with.
        manifest: The examples' counts, the chosen C and its cross-validated log loss.
    """

    labels: tuple[str, ...]
    coefficients: Matrix
    intercepts: Matrix
    encoder: DocumentEncoder
    manifest: Manifest

    def predict(self, texts: Sequence[str]) -> list[Label]:
        """The most probable category of each text."""
        probabilities = self.probabilities(texts)
        best = probabilities.argmax(axis=1)
        return [
            Label(self.labels[place], float(row[place]))
            for place, row in zip(best.tolist(), probabilities, strict=True)
        ]

    def probabilities(self, texts: Sequence[str]) -> Matrix:
        """The probability of each category for each text, [n, K]; rows add up to 1."""
        vectors = self.encoder.encode_document(list(texts)).astype(np.float64)
        return np.exp(_log_softmax(vectors @ self.coefficients.T + self.intercepts))

    def save(self, path: str | Path) -> None:
        """Writes it to a folder, as plain arrays and JSON.

        Raises:
            ModernPubMedError: There is something else than a classifier at ``path``.
        """
        path = Path(path)
        refuse_other_files(
            path, _KIND, {_WEIGHTS_NAME}, "there is something else than a classifier"
        )
        with replacing(path) as temporary:
            temporary.mkdir()
            np.savez(
                temporary / _WEIGHTS_NAME,
                coefficients=self.coefficients,
                intercepts=self.intercepts,
            )
            self.manifest.write(temporary)

    @classmethod
    def load(cls, path: str | Path, encoder: DocumentEncoder) -> Self:
        """Reads what ``save`` wrote.

        Raises:
            ModernPubMedError: No classifier, a damaged one, or one fitted with another encoder.
        """
        path = Path(path)
        manifest = Manifest.read(path / MANIFEST_NAME)
        if manifest.kind != _KIND:
            raise ModernPubMedError(
                f"this is not a classifier but {manifest.kind}",
                file=path,
                remedy="give the folder that modernpubmed classify wrote",
            )
        settings = manifest.settings
        if settings["fingerprint"] != encoder.fingerprint:
            raise ModernPubMedError(
                f"fitted with the encoder {settings['encoder']}, not with this {encoder.name}",
                file=path,
                remedy=f"load {settings['encoder']}, or fit again with {encoder.name}",
            )
        labels = tuple(settings["labels"])
        try:
            with np.load(path / _WEIGHTS_NAME, allow_pickle=False) as arrays:
                coefficients, intercepts = arrays["coefficients"], arrays["intercepts"]
        except (OSError, ValueError, KeyError) as error:
            raise ModernPubMedError(
                f"unreadable weights ({error})", file=path / _WEIGHTS_NAME, remedy="fit it again"
            ) from error
        if coefficients.ndim != 2 or not len(labels) == len(coefficients) == len(intercepts):
            raise ModernPubMedError(
                "the weights do not belong to these labels", file=path, remedy="fit it again"
            )
        return cls(labels, coefficients, intercepts, encoder, manifest)


def fit(
    texts: Sequence[str],
    labels: Sequence[str],
    encoder: DocumentEncoder,
    *,
    balanced: bool = False,
) -> Classifier:
    """Fits a classifier on labelled texts.

    Args:
        texts: At least two a category.
        labels: Their categories, as many as texts.
        encoder: Turns texts into vectors, once, through its ``encode_document``.
        balanced: Weigh every category the same, however many examples it has: better recall of
            rare categories, probabilities that no longer follow their frequency.

    Raises:
        ModernPubMedError: Fewer than two categories, a category with fewer than two examples, a
            blank text, or not as many labels as texts.
    """
    _check(texts, labels)
    cut = encoder.truncated
    vectors = encoder.encode_document(list(texts)).astype(np.float64)
    names, classes = _classes(labels)
    weights = _weights(classes, len(names), balanced)
    strength, loss = _choose_strength(vectors, classes, weights, len(names))
    coefficients, intercepts = logistic_regression(vectors, classes, len(names), strength, weights)
    manifest = Manifest(
        _KIND,
        settings={
            "encoder": encoder.name,
            "fingerprint": encoder.fingerprint,
            "labels": names,
            "strength": strength,
            "balanced": balanced,
            "cross_validated_log_loss": loss,
        },
        counts={"examples": len(texts), "truncated": encoder.truncated - cut},
        seed=_SEED,
    )
    return Classifier(tuple(names), coefficients, intercepts, encoder, manifest)


def hold_out(
    texts: Sequence[str],
    labels: Sequence[str],
    encoder: DocumentEncoder,
    *,
    fraction: float = 0.2,
    balanced: bool = False,
) -> Scores:
    """Fits on part of the examples and scores the rest: what to expect on new texts.

    Args:
        texts: As for ``fit``, and at least three a category, so that two are left to fit on.
        labels: Their categories.
        encoder: Turns texts into vectors.
        fraction: The share to hold out, by category.
        balanced: As for ``fit``.

    Raises:
        ModernPubMedError: As for ``fit``, or too few examples to hold any out.
    """
    _check(texts, labels, least=3)
    held = stratified_split(labels, fraction)
    kept = sorted(set(range(len(texts))).difference(held))
    classifier = fit(
        [texts[i] for i in kept], [labels[i] for i in kept], encoder, balanced=balanced
    )
    return score(classifier, [texts[i] for i in held], [labels[i] for i in held])


def score(classifier: Classifier, texts: Sequence[str], labels: Sequence[str]) -> Scores:
    """Accuracy and macro-F1 of a classifier on texts with known labels."""
    predicted = [label.label for label in classifier.predict(texts)]
    return Scores(accuracy(labels, predicted), macro_f1(labels, predicted), len(texts))


def accuracy(truth: Sequence[str], predicted: Sequence[str]) -> float:
    """The share of predictions that are right.

    >>> accuracy(["a", "a", "b", "b"], ["a", "b", "b", "b"])
    0.75
    """
    return sum(t == p for t, p in zip(truth, predicted, strict=True)) / len(truth)


def macro_f1(truth: Sequence[str], predicted: Sequence[str]) -> float:
    """The F1 of each category, averaged; the categories are those of truth and predictions.

    A category that is never predicted right has F1 0 (scikit-learn's ``zero_division=0``).

    >>> round(macro_f1(["a", "a", "b", "b"], ["a", "b", "b", "b"]), 4)
    0.7333
    """
    right = Counter(t for t, p in zip(truth, predicted, strict=True) if t == p)
    both = Counter(truth) + Counter(predicted)
    return sum(2 * right[name] / count for name, count in both.items()) / len(both)


def stratified_split(labels: Sequence[str], fraction: float, seed: int = _SEED) -> list[int]:
    """The places of the examples to hold out: ``fraction`` of each category, at least one.

    >>> stratified_split(["a", "b"] * 5, 0.2) == stratified_split(["a", "b"] * 5, 0.2)
    True
    >>> sorted(place % 2 for place in stratified_split(["a", "b"] * 5, 0.2))
    [0, 1]
    """
    if not 0 < fraction < 1:
        raise ModernPubMedError(
            f"a fraction of {fraction} cannot be held out", remedy="give one between 0 and 1"
        )
    names, classes = _classes(labels)
    generator = np.random.default_rng(seed)
    held: list[int] = []
    for place in range(len(names)):
        members = generator.permutation(np.flatnonzero(classes == place))
        held.extend(members[: max(1, round(fraction * len(members)))].tolist())
    return sorted(held)


def read_examples(path: str | Path) -> list[Example]:
    """Labelled texts from a ``.tsv``, ``.csv`` or ``.jsonl`` file.

    A TSV or CSV has a header that names the columns ``text`` and ``label``; a JSONL record has
    these keys. Other columns and keys are passed over.

    Raises:
        ModernPubMedError: The file is of another kind or holds no example, or a line is malformed,
            blank or without label (the line is named).
    """
    path = Path(path)
    records: Iterable[tuple[int, Mapping[str, object]]]
    if path.suffix == ".jsonl":
        records = json_lines(path, '{"text": "…", "label": "…"}')
    elif path.suffix == ".tsv":
        records = table_rows(path, ("text", "label"))
    elif path.suffix == ".csv":
        records = table_rows(path, ("text", "label"), delimiter=",")
    else:
        raise ModernPubMedError(
            f"a file of examples ends in .tsv, .csv, .jsonl, not in '{path.suffix}'",
            file=path,
            remedy="write a TSV with the columns text and label",
        )
    examples = []
    for number, record in records:
        text, label = record.get("text"), record.get("label")
        for key, value in (("text", text), ("label", label)):
            if not isinstance(value, str) or not value.strip():
                raise ModernPubMedError(
                    f"no {key}",
                    file=path,
                    record=f"line {number}",
                    remedy="give every example a text and a label, both strings",
                )
        examples.append(Example(str(text), str(label)))
    if not examples:
        raise ModernPubMedError(
            "no examples in it", file=path, remedy="give two or more a category"
        )
    return examples


def logistic_regression(
    vectors: Matrix,
    classes: NDArray[np.int64],
    count: int,
    strength: float,
    weights: Matrix | None = None,
) -> tuple[Matrix, Matrix]:
    """The multinomial logistic regression that minimises scikit-learn's objective.

    ½‖W‖² + C Σ wᵢ (−log softmax(W xᵢ + b)[yᵢ]), with free intercepts. For two classes this is
    scikit-learn's binary model with twice the C: there one vector carries the penalty, here two.

    Args:
        vectors: [n, d].
        classes: [n], each in 0 … count − 1.
        count: K.
        strength: C, the inverse of the penalty.
        weights: [n], 1 each when None.

    Returns:
        Coefficients [K, d] and intercepts [K].
    """
    examples, width = vectors.shape
    weights = np.ones(examples) if weights is None else weights
    target = np.zeros((examples, count))
    target[np.arange(examples), classes] = 1.0

    def objective(flat: Matrix) -> tuple[float, Matrix]:
        packed = flat.reshape(count, width + 1)
        coefficients, intercepts = packed[:, :width], packed[:, width]
        log_probabilities = _log_softmax(vectors @ coefficients.T + intercepts)
        loss = -strength * float(weights @ (log_probabilities * target).sum(axis=1))
        error = strength * weights[:, None] * (np.exp(log_probabilities) - target)
        gradient = np.empty_like(packed)
        gradient[:, :width] = error.T @ vectors + coefficients
        gradient[:, width] = error.sum(axis=0)
        return loss + 0.5 * float((coefficients**2).sum()), gradient.ravel()

    # The penalty makes the objective 1-strongly convex in W: a gradient of 1e-6 bounds the error of
    # W by as much. The second term is what rounding leaves of the data term's gradient.
    solution = _minimise(
        objective,
        np.zeros(count * (width + 1)),
        tolerance=max(1e-6, 1e-12 * strength * float(weights.sum())),
    )
    packed = solution.reshape(count, width + 1)
    return packed[:, :width].copy(), packed[:, width].copy()


def _minimise(
    objective: Callable[[Matrix], tuple[float, Matrix]],
    start: Matrix,
    *,
    tolerance: float,
    memory: int = 20,
    most: int = 5000,
) -> Matrix:
    """L-BFGS with backtracking, for a smooth convex function."""
    place = start
    value, gradient = objective(place)
    steps: list[tuple[Matrix, Matrix]] = []
    for _ in range(most):
        if float(np.abs(gradient).max()) <= tolerance:
            return place
        direction = -_inverse_hessian_times(gradient, steps)
        slope = float(direction @ gradient)
        # The first step has no curvature to go by: its length is limited.
        step = 1.0 if steps else min(1.0, 1.0 / float(np.linalg.norm(gradient)))
        while True:
            candidate = place + step * direction
            new_value, new_gradient = objective(candidate)
            # Armijo's condition, short of the rounding error of the value itself.
            enough = value + 1e-4 * step * slope + 1e-14 * abs(value)
            if new_value <= enough or step < 1e-12:
                break
            step *= 0.5
        if step < 1e-12 and steps:
            steps = []  # the curvature is stale: start again from the gradient
            continue
        moved, changed = candidate - place, new_gradient - gradient
        if float(moved @ changed) > 1e-12 * float(changed @ changed):
            steps = [*steps[-memory + 1 :], (moved, changed)]
        place, value, gradient = candidate, new_value, new_gradient
    raise ModernPubMedError(
        f"the logistic regression did not converge in {most} steps",
        remedy="check that the encoder gives vectors of length 1",
    )


def _inverse_hessian_times(gradient: Matrix, steps: list[tuple[Matrix, Matrix]]) -> Matrix:
    """The two-loop recursion (Nocedal & Wright, algorithm 7.4)."""
    result = gradient.copy()
    projections = []
    for moved, changed in reversed(steps):
        projection = float(moved @ result) / float(moved @ changed)
        projections.append(projection)
        result -= projection * changed
    if steps:
        moved, changed = steps[-1]
        result *= float(moved @ changed) / float(changed @ changed)
    for (moved, changed), projection in zip(steps, reversed(projections), strict=True):
        result += (projection - float(changed @ result) / float(moved @ changed)) * moved
    return result


def _log_softmax(logits: Matrix) -> Matrix:
    shifted = logits - logits.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))


def _choose_strength(
    vectors: Matrix, classes: NDArray[np.int64], weights: Matrix, count: int
) -> tuple[float, float]:
    """The C of least cross-validated log loss, and that loss a text.

    The log loss, not the accuracy: it also judges the probabilities, and with few examples many C
    share the best accuracy.
    """
    folds = min(_FOLDS, int(np.bincount(classes).min()))
    generator = np.random.default_rng(_SEED)
    fold_of = np.empty(len(classes), dtype=np.int64)
    for place in range(count):
        members = generator.permutation(np.flatnonzero(classes == place))
        fold_of[members] = np.arange(len(members)) % folds
    losses = []
    for strength in STRENGTHS:
        total = 0.0
        for fold in range(folds):
            inside, outside = fold_of != fold, fold_of == fold
            coefficients, intercepts = logistic_regression(
                vectors[inside], classes[inside], count, strength, weights[inside]
            )
            logits = vectors[outside] @ coefficients.T + intercepts
            chosen = _log_softmax(logits)[np.arange(outside.sum()), classes[outside]]
            total -= float(weights[outside] @ chosen)
        losses.append(total / float(weights.sum()))
    best = int(np.argmin(losses))  # of equal ones the first: the stronger penalty
    return STRENGTHS[best], losses[best]


def _classes(labels: Sequence[str]) -> tuple[list[str], NDArray[np.int64]]:
    names = sorted(set(labels))
    place_of = {name: place for place, name in enumerate(names)}
    return names, np.array([place_of[label] for label in labels], dtype=np.int64)


def _weights(classes: NDArray[np.int64], count: int, balanced: bool) -> Matrix:
    if not balanced:
        return np.ones(len(classes))
    frequencies = np.bincount(classes, minlength=count)
    return np.asarray((len(classes) / (count * frequencies))[classes])


def _check(texts: Sequence[str], labels: Sequence[str], least: int = 2) -> None:
    if len(texts) != len(labels):
        raise ModernPubMedError(
            f"{len(texts)} texts and {len(labels)} labels", remedy="give each text one label"
        )
    for number, text in enumerate(texts, start=1):
        if not text.strip():
            raise ModernPubMedError(
                "a blank text", record=f"example {number}", remedy="leave it out"
            )
    counts = Counter(labels)
    if len(counts) < 2:
        raise ModernPubMedError(
            f"the examples have {len(counts)} label(s)",
            remedy="give examples of at least two categories",
        )
    rarest, number = min(counts.items(), key=lambda item: (item[1], item[0]))
    if number < least:
        raise ModernPubMedError(
            f"the label '{rarest}' has {number} example(s), {least} are needed",
            remedy="add examples of it, or merge it with another label",
        )
