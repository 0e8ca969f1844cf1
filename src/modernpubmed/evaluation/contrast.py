"""Clinical contrast: is a sentence nearer to its meaning in other words than to its near twin?

Each triple of the suite in ``contrast_suite/`` holds a sentence, a paraphrase, and a near-identical
sentence that means something else ("no fever", "fever"). A model is right if the cosine of sentence
and paraphrase is higher than that of sentence and contrast; a tie is wrong. The idea is that of
contrast sets (Gardner et al. 2020, arXiv:2004.02709) and of the triplet accuracy of sentence
encoders. ``docs/contrast-suite.md`` says how the triples were written and what they cannot show.

Paraphrases are of two wordings. A *near* one changes as few words as the contrast does ("rose" to
"climbed", where the contrast has "fell"), so that words alone decide nothing; a *free* one says it
in words of its own, so that they all speak for the wrong answer.

The suite has two halves: ``dev`` to choose by, ``test`` to report. Within a class the triples are
ordered by the SHA-256 of their ids and dealt in turn, so that both halves hold each class evenly
and a triple never changes sides. It is never to be trained on.
"""

from __future__ import annotations

import hashlib
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from modernpubmed.encoder import TruncationWarning
from modernpubmed.errors import ModernPubMedError
from modernpubmed.evaluation.bm25 import BM25, rank_bm25
from modernpubmed.evaluation.measured import ContrastClass, ContrastScore, Estimate
from modernpubmed.evaluation.significance import bootstrap_mean, mean_over_suites
from modernpubmed.lines import text_lines
from modernpubmed.protocols import DocumentEncoder
from modernpubmed.suites import Suite

#: The suite in the package.
CONTRAST_SUITE = Path(__file__).with_name("contrast_suite")
#: What ``half`` may be.
HALVES = ("all", "dev", "test")
#: The voices that triples are written in.
REGISTERS = ("clinical", "abstract")
#: How far the paraphrase is from the sentence in words.
WORDINGS = ("near", "free")

_HEADER = ["id", "register", "wording", "sentence", "paraphrase", "contrast"]
# 97.5 % point of the normal distribution.
_Z = 1.959963984540054


@dataclass(frozen=True, slots=True)
class Triple:
    """A sentence, the same in other words, and a near twin that means something else.

    Attributes:
        id: Its class and a number, ``negation-001``.
        label: Its class.
        register: ``clinical`` or ``abstract``.
        wording: ``near`` or ``free``: how far the paraphrase is from the sentence in words.
        sentence: The sentence.
        paraphrase: The same meaning.
        contrast: Another meaning.
    """

    id: str
    label: str
    register: str
    wording: str
    sentence: str
    paraphrase: str
    contrast: str


@dataclass(frozen=True, slots=True)
class ContrastSuite:
    """Triples of several classes.

    Attributes:
        triples: By class, classes in the order of their names.
        half: Which half they are, or ``all``.
        version: SHA-256 of their content.
    """

    triples: tuple[Triple, ...]
    half: str
    version: str

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes, in order."""
        return tuple(dict.fromkeys(triple.label for triple in self.triples))


def read_contrast_suite(path: str | Path | None = None, *, half: str = "all") -> ContrastSuite:
    """Reads a contrast suite: a folder of one ``.tsv`` a class, with a header line.

    Args:
        path: The folder; None is the suite in the package.
        half: ``all``, ``dev`` or ``test``.

    Raises:
        ModernPubMedError: There is no such half or no file; a line has other fields than those of
            the header, an empty one, an unknown register or wording, an id of another class or a
            repeated one; two of a triple's three texts are the same; a text is repeated anywhere
            in the suite.

    >>> suite = read_contrast_suite(half="test")
    >>> "drug" in suite.labels
    True
    """
    if half not in HALVES:
        raise ModernPubMedError(f"no half {half!r}", remedy=f"give one of {', '.join(HALVES)}")
    folder = CONTRAST_SUITE if path is None else Path(path)
    files = sorted(folder.glob("*.tsv"))
    if not files:
        raise ModernPubMedError(
            "no .tsv file", file=folder, remedy="give a folder of one file a class"
        )
    ids: dict[str, str] = {}
    texts: dict[str, str] = {}
    triples: list[Triple] = []
    for file in files:
        of_class = _read_class(file, ids, texts)
        triples += [t for t in of_class if half in ("all", _halves(of_class)[t.id])]
    digest = hashlib.sha256()
    for t in triples:
        digest.update("\t".join((t.id, t.sentence, t.paraphrase, t.contrast)).encode() + b"\n")
    return ContrastSuite(tuple(triples), half, digest.hexdigest())


def score_contrast(encoder: DocumentEncoder, suite: ContrastSuite) -> ContrastScore:
    """A model's accuracy on a contrast suite, by class and over all.

    All three texts are encoded as documents: none of them is a query.

    Raises:
        ModernPubMedError: The encoder gives vectors of another shape, or not finite.
    """
    parts = ("sentence", "paraphrase", "contrast")
    texts = [getattr(triple, part) for part in parts for triple in suite.triples]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TruncationWarning)  # sentences: nothing to cut
        vectors = np.asarray(encoder.encode_document(texts), dtype=np.float64)
    if vectors.ndim != 2 or len(vectors) != len(texts) or not np.isfinite(vectors).all():
        raise ModernPubMedError(
            f"{encoder.name} gave vectors of shape {vectors.shape}, or not finite ones",
            remedy="give an encoder that returns one finite row a text",
        )
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    sentence, paraphrase, contrast = vectors.reshape(3, len(suite.triples), -1)
    margins = np.einsum("nd,nd->n", sentence, paraphrase) - np.einsum(
        "nd,nd->n", sentence, contrast
    )
    return _score(encoder.name, encoder.fingerprint, suite, margins)


def score_contrast_bm25(suite: ContrastSuite) -> ContrastScore:
    """BM25's accuracy: the sentence as the query, every paraphrase and contrast as a document.

    The margin is that of BM25's scores; a document that shares no word scores 0.
    """
    ids = [f"{triple.id}/{part}" for triple in suite.triples for part in ("same", "other")]
    corpus = [text for triple in suite.triples for text in (triple.paraphrase, triple.contrast)]
    names = tuple(triple.id for triple in suite.triples)
    run = rank_bm25(
        Suite(
            "contrast",
            names,
            tuple(triple.sentence for triple in suite.triples),
            tuple(ids),
            tuple(corpus),
            {name: {f"{name}/same": 1} for name in names},
        ),
        k=len(ids),
    )
    margins = np.empty(len(names))
    for row in range(len(names)):
        found = dict(zip(run.documents[row].tolist(), run.scores[row].tolist(), strict=True))
        margins[row] = found.get(2 * row, 0.0) - found.get(2 * row + 1, 0.0)
    return _score(BM25, "", suite, margins)


def compare_contrast(ours: ContrastScore, theirs: ContrastScore) -> dict[str, Estimate]:
    """The difference in accuracy, triple by triple: ``overall`` and by class.

    Raises:
        ModernPubMedError: The two were not measured on the same triples.
    """
    if ours.version != theirs.version or ours.margins.keys() != theirs.margins.keys():
        raise ModernPubMedError(
            f"{ours.model} and {theirs.model} were not measured on the same triples",
            record=f"versions {ours.version[:12]} and {theirs.version[:12]}",
            remedy="measure both again",
        )
    differences: dict[str, list[float]] = {label: [] for label in ours.classes}
    for name, margin in ours.margins.items():
        right, other = float(margin > 0), float(theirs.margins[name] > 0)
        differences[_label(name)].append(right - other)
    found = {label: bootstrap_mean(values) for label, values in differences.items()}
    return {"overall": mean_over_suites(list(differences.values())), **found}


def wilson(right: int, of: int) -> Estimate:
    """A share with its 95 % score interval (Wilson 1927, doi:10.1080/01621459.1927.10502953).

    >>> wilson(0, 10)
    Estimate(value=0.0, low=0.0, high=0.2775...)
    """
    share = right / of
    middle = (share + _Z**2 / (2 * of)) / (1 + _Z**2 / of)
    reach = _Z * math.sqrt(share * (1 - share) / of + _Z**2 / (4 * of**2)) / (1 + _Z**2 / of)
    # At the ends rounding would leave the share outside its own interval.
    return Estimate(
        share, max(0.0, min(share, middle - reach)), min(1.0, max(share, middle + reach))
    )


def _score(
    model: str, fingerprint: str, suite: ContrastSuite, margins: NDArray[np.float64]
) -> ContrastScore:
    labels = np.array([triple.label for triple in suite.triples])
    wordings = np.array([triple.wording for triple in suite.triples])
    right = margins > 0
    classes: Mapping[str, ContrastClass] = {
        label: ContrastClass(
            triples=int((labels == label).sum()),
            accuracy=wilson(int(right[labels == label].sum()), int((labels == label).sum())),
            margin=float(margins[labels == label].mean()),
        )
        for label in suite.labels
    }
    return ContrastScore(
        model=model,
        half=suite.half,
        version=suite.version,
        overall=mean_over_suites([right[labels == label].astype(float) for label in suite.labels]),
        classes=classes,
        wordings={
            wording: wilson(int(right[wordings == wording].sum()), int((wordings == wording).sum()))
            for wording in WORDINGS
            if (wordings == wording).any()
        },
        margins={
            triple.id: round(float(margin), 6)
            for triple, margin in zip(suite.triples, margins, strict=True)
        },
        fingerprint=fingerprint,
    )


def _halves(triples: Sequence[Triple]) -> dict[str, str]:
    """The half of each triple of one class, by id."""
    order = sorted(triples, key=lambda triple: hashlib.sha256(triple.id.encode()).hexdigest())
    return {triple.id: ("dev", "test")[place % 2] for place, triple in enumerate(order)}


def _read_class(file: Path, ids: dict[str, str], texts: dict[str, str]) -> list[Triple]:
    """One file; ``ids`` and ``texts`` hold what came before, with its place."""
    remedy = f"write each line as {' TAB '.join(_HEADER)}"
    triples: list[Triple] = []
    for number, line in text_lines(file):
        place = f"line {number}"
        fields = [part.strip() for part in line.split("\t")]
        if number == 1:
            if fields != _HEADER:
                raise ModernPubMedError("another header", file=file, record=place, remedy=remedy)
            continue
        if len(fields) != len(_HEADER) or not all(fields):
            raise ModernPubMedError(
                f"{sum(map(bool, fields))} fields that are not empty, where there should be six",
                file=file,
                record=place,
                remedy=remedy,
            )
        triple = Triple(fields[0], file.stem, *fields[1:])
        _check(triple, file, place, ids, texts)
        triples.append(triple)
    if not triples:
        raise ModernPubMedError("no triple", file=file, remedy=remedy)
    return triples


def _check(
    triple: Triple, file: Path, place: str, ids: dict[str, str], texts: dict[str, str]
) -> None:
    cause = remedy = None
    if triple.register not in REGISTERS:
        cause = f"unknown register {triple.register!r}"
        remedy = f"give one of {', '.join(REGISTERS)}"
    elif triple.wording not in WORDINGS:
        cause = f"unknown wording {triple.wording!r}"
        remedy = f"give one of {', '.join(WORDINGS)}"
    elif _label(triple.id) != triple.label:
        cause = f"the id {triple.id!r} is not of the class {triple.label!r}"
        remedy = f"call it {triple.label}-001 or the like"
    elif triple.id in ids:
        cause, remedy = f"the id {triple.id!r} was in {ids[triple.id]}", "give each id once"
    else:
        for text in (triple.sentence, triple.paraphrase, triple.contrast):
            folded = text.casefold()
            if folded in texts:
                cause = f"“{text}” was in {texts[folded]} already"
                remedy = "write three different texts, and none of them twice"
            texts[folded] = f"{file.name}, {place}"
    if cause is not None:
        raise ModernPubMedError(cause, file=file, record=place, remedy=remedy)
    ids[triple.id] = f"{file.name}, {place}"


def _label(name: str) -> str:
    return name.rpartition("-")[0]
