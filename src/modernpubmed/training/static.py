"""A static model distilled from an encoder: one vector a token, and a text is their mean.

It has no transformer, so it runs thousands of texts a second anywhere, and reads texts of any
length. How it is made, each step measured in ``docs/lab-notes.md``:

1. The tokenizer is adapted to the texts: frequent words become tokens (``vocabulary``).
2. Each token's vector is the teacher's of that token alone, reduced by principal components
   (model2vec, Tulkens & van Dongen 2024, https://github.com/MinishLab/model2vec) and weighted by
   a / (a + p), where p is its share of the texts' tokens (SIF, Arora et al. 2017,
   https://openreview.net/forum?id=SyK00v5xx).
3. The table is then trained: pairs by ``contrast``, and by ``agreement`` with the teacher on a
   sample of short texts, so that it keeps the teacher's sense of what no pair is about.
4. It is turned to the principal axes of the texts' vectors, which changes no cosine: cut to its
   first numbers (``Encoder.load(dim=…)``) a vector loses least.

Needs NumPy, SciPy and the teacher; no torch. The seed decides everything else.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file
from scipy import sparse
from tokenizers import Tokenizer

from modernpubmed.errors import ModernPubMedError
from modernpubmed.manifest import Manifest, replacing
from modernpubmed.protocols import DocumentEncoder
from modernpubmed.training.bags import Descent, Floats, agreement, bags, contrast
from modernpubmed.training.vocabulary import CONTINUED, adapted

#: What is done, how much of it is done, and of how much in all.
Report = Callable[[str, int, int], None]

_MODULES = (
    ("", "sentence_transformers.sentence_transformer.modules.static_embedding.StaticEmbedding"),
    ("1_Normalize", "sentence_transformers.base.modules.normalize.Normalize"),
)
# Rows are brought to this root mean square, which the learning rate is for.
_SCALE = np.float32(0.05)
# Texts that are encoded between two reports.
_BLOCK = 2048


@dataclass(frozen=True, slots=True)
class Settings:
    """How a static model is made.

    Attributes:
        dim: Numbers of a vector.
        tokens: Most tokens: 31,000 of 256 fp16 numbers are 15.9 MB.
        sif: a of the weights of step 2.
        steps: Of training.
        batch: Pairs a step, and texts for the teacher's part of it.
        temperature: Of ``contrast``.
        agreement: The weight of ``agreement``, to 1 of ``contrast``.
        agreement_temperature: Its own.
        teacher_texts: Texts that the teacher is asked about.
        teacher_characters: The longest of them.
        learning_rate: Of the first steps; it falls to 0 in a line.
        seed: Of the batches.
    """

    dim: int = 256
    tokens: int = 31_000
    sif: float = 3e-4
    steps: int = 600
    batch: int = 1024
    temperature: float = 0.08
    agreement: float = 0.3
    agreement_temperature: float = 0.05
    teacher_texts: int = 30_000
    teacher_characters: int = 600
    learning_rate: float = 0.01
    seed: int = 42


@dataclass(frozen=True, slots=True)
class _Pairs:
    """A file of pairs, as bags; equal keys are equal texts."""

    anchors: sparse.csr_array
    positives: sparse.csr_array
    anchor_keys: NDArray[np.int64]
    positive_keys: NDArray[np.int64]


def distil(
    teacher: DocumentEncoder,
    tokenizer: Path,
    texts: Mapping[str, Sequence[tuple[str, ...]]],
    out: Path,
    *,
    settings: Settings | None = None,
    inputs: Mapping[str, str] | None = None,
    report: Report | None = None,
) -> Manifest:
    """Writes a sentence-transformers folder with a static model.

    Args:
        teacher: The encoder to learn from.
        tokenizer: The ``tokenizer.json`` of a WordPiece; the teacher's own is best.
        texts: By file, what is in it: pairs of texts that mean the same, or single texts. A batch
            is of one file, since texts of one kind are what is hard to tell apart.
        out: The folder to make.
        settings: How; None is the defaults.
        inputs: SHA-256 of what went in, by name, for the manifest.
        report: Called as the work goes on.

    Raises:
        ModernPubMedError: ``out`` exists, there are fewer than two texts, a file holds pairs and
            single texts, the tokenizer is broken or no WordPiece, or the teacher's vectors have
            fewer than ``dim`` numbers.
    """
    settings = settings or Settings()
    report = report or (lambda _what, _done, _of: None)
    if out.exists():
        raise ModernPubMedError("exists already", file=out, remedy="choose another --out")
    if not 1 <= settings.dim <= teacher.dimension:
        raise ModernPubMedError(
            f"dim is {settings.dim}, and the vectors of {teacher.name} have {teacher.dimension}",
            remedy=f"give 1 to {teacher.dimension}",
        )
    everything = list(_sides(texts))
    words = adapted(_tokenizer(tokenizer), everything, settings.tokens)
    pairs = {
        name: _pairs(words, records)
        for name, records in texts.items()
        if records and len(records[0]) > 1
    }
    table = _start(teacher, words, everything, settings, report)
    sample = _sample(everything, settings)
    wanted = _encode(teacher, sample, "teacher's vectors of texts", report)
    bag = bags(words, sample)
    _train(table, list(pairs.values()), (bag, wanted), settings, report)
    table = _turned(table, bag)
    manifest = Manifest(
        kind="model",
        inputs=dict(inputs or {}),
        settings={"teacher": teacher.name, "static": asdict(settings)},
        counts={
            "tokens": len(table),
            "pairs": sum(pair.anchors.shape[0] for pair in pairs.values()),
            "texts": len(everything),
            "teacher_texts": len(sample),
        },
        seed=settings.seed,
    )
    with replacing(out) as temporary:
        _write(table, words, temporary)
        manifest.write(temporary)
    return manifest


def _sides(texts: Mapping[str, Sequence[tuple[str, ...]]]) -> Iterator[str]:
    for name, records in texts.items():
        for number, record in enumerate(records):
            if len(record) != len(records[0]):
                raise ModernPubMedError(
                    "holds pairs and single texts",
                    file=name,
                    record=number,
                    remedy="put them in files of their own",
                )
            yield from record


def _tokenizer(file: Path) -> Tokenizer:
    try:
        return Tokenizer.from_file(str(file))
    except Exception as error:  # tokenizers raises bare Exception
        raise ModernPubMedError(
            f"not a readable tokenizer ({error})", file=file, remedy="copy the folder again"
        ) from error


def _pairs(tokenizer: Tokenizer, records: Sequence[tuple[str, ...]]) -> _Pairs:
    anchors, positives = ([record[side] for record in records] for side in (0, 1))
    return _Pairs(
        bags(tokenizer, anchors), bags(tokenizer, positives), _keys(anchors), _keys(positives)
    )


def _keys(texts: Sequence[str]) -> NDArray[np.int64]:
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(text, len(numbers)) for text in texts], dtype=np.int64)


def _start(
    teacher: DocumentEncoder,
    tokenizer: Tokenizer,
    texts: Sequence[str],
    settings: Settings,
    report: Report,
) -> Floats:
    """Steps 1 and 2: the table before it is trained, ``[tokens, dim]``."""
    tokens = [tokenizer.id_to_token(row) or "" for row in range(tokenizer.get_vocab_size())]
    vectors = _encode(
        teacher,
        [token.removeprefix(CONTINUED) for token in tokens],
        "teacher's vectors of tokens",
        report,
    )
    counts = np.asarray(bags(tokenizer, texts).sum(axis=0)).ravel()
    centred = vectors - vectors.mean(axis=0)
    axes = _principal_axes(centred)[:, : settings.dim]
    share = (counts + 0.5) / (counts + 0.5).sum()
    weights = settings.sif / (settings.sif + share)
    table = centred @ axes * weights[:, None].astype(np.float32)
    table[0] = 0  # the unknown token says nothing
    scaled: Floats = table * (_SCALE / table.std())
    return scaled


def _sample(texts: Sequence[str], settings: Settings) -> list[str]:
    """Different short texts, evenly from all of them."""
    short = [text for text in dict.fromkeys(texts) if len(text) <= settings.teacher_characters]
    if len(short) < 2:
        raise ModernPubMedError(
            f"{len(short)} different texts of at most {settings.teacher_characters} characters",
            remedy="give more texts, and not only long ones",
        )
    count = min(settings.teacher_texts, len(short))
    return [short[row * len(short) // count] for row in range(count)]


def _encode(teacher: DocumentEncoder, texts: Sequence[str], what: str, report: Report) -> Floats:
    blocks = []
    for start in range(0, len(texts), _BLOCK):
        report(what, start, len(texts))
        blocks.append(teacher.encode_document(texts[start : start + _BLOCK]))
    return np.concatenate(blocks)


def _train(
    table: Floats,
    pairs: Sequence[_Pairs],
    taught: tuple[sparse.csr_array, Floats],
    settings: Settings,
    report: Report,
) -> None:
    """Step 3, in place. A step takes pairs of one file, as often as it has pairs, and texts."""
    random = np.random.default_rng(settings.seed)
    descent = Descent(table)
    bag, wanted = taught
    texts = _rows(random, len(wanted), settings.batch)
    rows = [_rows(random, len(one.anchor_keys), settings.batch) for one in pairs]
    sizes = np.array([len(one.anchor_keys) for one in pairs], dtype=np.float64)
    losses: list[float] = []
    for step in range(settings.steps):
        row = next(texts)
        batch, gradients = [bag[row]], []
        loss, slope = agreement(
            batch[0] @ table, wanted[row], settings.agreement_temperature
        )
        gradients.append(slope * np.float32(settings.agreement if pairs else 1))
        if pairs:
            number = int(random.choice(len(pairs), p=sizes / sizes.sum()))
            one, row = pairs[number], next(rows[number])
            anchors, positives = one.anchors[row], one.positives[row]
            same = one.anchor_keys[row][:, None] == one.anchor_keys[row]
            same |= one.positive_keys[row][:, None] == one.positive_keys[row]
            loss, left, right = contrast(
                anchors @ table, positives @ table, same, settings.temperature
            )
            batch += [anchors, positives]
            gradients += [left, right]
        rate = settings.learning_rate * min(1, (step + 1) / 20) * (1 - step / settings.steps)
        descent.step(sparse.vstack(batch, format="csr"), np.concatenate(gradients), rate)
        losses = [*losses[-49:], loss]
        report(f"training, loss {np.mean(losses):.3f}", step + 1, settings.steps)


def _rows(random: np.random.Generator, count: int, batch: int) -> Iterator[NDArray[np.int64]]:
    """Batches of rows without end: each row once before any comes again."""
    batch = min(batch, count)
    while True:
        order = random.permutation(count)
        for start in range(0, count - batch + 1, batch):
            yield order[start : start + batch]


def _principal_axes(vectors: Floats) -> Floats:
    """Orthonormal columns ``[d, d]``, in the order of what the vectors have along them."""
    _, axes = np.linalg.eigh(vectors.T.astype(np.float64) @ vectors)
    return np.ascontiguousarray(axes[:, ::-1], dtype=np.float32)


def _turned(table: Floats, bag: sparse.csr_array) -> Floats:
    """Step 4."""
    vectors = bag @ table
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.float32(1e-6))
    turned: Floats = table @ _principal_axes(vectors)
    return turned


def _write(table: Floats, tokenizer: Tokenizer, folder: Path) -> None:
    """The folder as ``SentenceTransformer.save_pretrained`` writes it, in fp16."""
    folder.mkdir()
    save_file(
        {"embedding.weight": table.astype(np.float16)}, folder / "model.safetensors", {"format": "pt"}
    )
    (folder / "model.safetensors").chmod(0o644)
    tokenizer.save(str(folder / "tokenizer.json"))
    modules = [
        {"idx": number, "name": str(number), "path": path, "type": kind}
        for number, (path, kind) in enumerate(_MODULES)
    ]
    settings = {
        "default_prompt_name": None,
        "model_type": "SentenceTransformer",
        "prompts": {"document": "", "query": ""},
        "similarity_fn_name": "cosine",
    }
    (folder / "1_Normalize").mkdir()
    for name, content in (
        ("modules.json", modules),
        ("config_sentence_transformers.json", settings),
        ("1_Normalize/config.json", {}),
    ):
        (folder / name).write_text(json.dumps(content, indent=2) + "\n", "utf-8")
