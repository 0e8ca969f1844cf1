"""A static model distilled from an encoder: one vector a token, and a text is their mean.

It has no transformer, so encoding costs little more than tokenising, and texts may have any
length. How it is made:

1. The tokenizer is adapted to the texts: frequent words become tokens (``vocabulary``).
2. Each token's vector is the teacher's of that token alone, reduced by principal components
   (model2vec, Tulkens & van Dongen 2024, https://github.com/MinishLab/model2vec) and weighted by
   a / (a + p), where p is its share of the texts' tokens (SIF, Arora et al. 2017,
   https://openreview.net/forum?id=SyK00v5xx).
3. The table is then trained: pairs by InfoNCE (``infonce``), and a sample of short texts by
   ``agreement`` with the teacher, so that it keeps the teacher's sense of what no pair is about.
4. It is turned to the principal axes of the texts' vectors, which changes no cosine: cut to its
   first numbers (``Encoder.load(dim=…)``) a vector loses least.

All texts are held in memory. The seed decides everything that is drawn; training is the same to
the bit on the same machine with as many threads.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, StaticEmbedding
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional

from modernpubmed.errors import ModernPubMedError
from modernpubmed.manifest import Manifest, replacing, sha256
from modernpubmed.protocols import DocumentEncoder
from modernpubmed.training.infonce import Objective, Vectors, info_nce
from modernpubmed.training.students import Floats, Report, agreement, asked, principal_axes
from modernpubmed.training.texts import Texts, read_texts
from modernpubmed.training.train import save_model
from modernpubmed.training.vocabulary import CONTINUED, UNKNOWN, Bags, adapted, bags

# The table is brought to this standard deviation, which the learning rate is for.
_SCALE = 0.05
# What the unknown token has along the least axis: in fp16, 0 would be divided by 0.
_UNKNOWN_SIZE = 2**-8
# Steps in which the learning rate rises.
_WARMUP = 20


@dataclass(frozen=True, slots=True)
class Settings:
    """How a static model is made.

    Attributes:
        dim: Numbers of a vector.
        tokens: Most tokens: 18,000 of 256 fp16 numbers are 9.2 MB.
        sif: a of the weights of step 2.
        steps: Of training.
        batch: Pairs a step, and texts for the teacher's part of it.
        temperature: Of InfoNCE.
        agreement: The weight of ``agreement``, to 1 of InfoNCE.
        agreement_temperature: Its own.
        teacher_texts: Texts that the teacher is asked about.
        teacher_characters: The longest of them.
        learning_rate: Of the first steps; it falls to 0 in a line.
        seed: Of the batches.
    """

    dim: int = 256
    tokens: int = 18_000
    sif: float = 3e-4
    steps: int = 600
    batch: int = 1024
    temperature: float = 0.05
    agreement: float = 0.3
    agreement_temperature: float = 0.05
    teacher_texts: int = 30_000
    teacher_characters: int = 300
    learning_rate: float = 0.01
    seed: int = 42


#: Of the pairs of a file, the rows of their texts, ``[n]`` each.
_Pairs = tuple[NDArray[np.int64], NDArray[np.int64]]


def distil_static(
    teacher: DocumentEncoder,
    tokenizer: Path,
    files: Sequence[Path],
    out: Path,
    *,
    settings: Settings | None = None,
    report: Report | None = None,
) -> Manifest:
    """Writes a sentence-transformers folder with a static model.

    Args:
        teacher: The encoder to learn from.
        tokenizer: The ``tokenizer.json`` of a WordPiece; the teacher's own is best.
        files: Pairs of texts that mean the same, and single texts, as ``read_texts`` takes them. A
            batch is of one file, since texts of one kind are what is hard to tell apart.
        out: The folder to make.
        settings: How; None is the defaults.
        report: Called as the work goes on.

    Raises:
        ModernPubMedError: ``out`` exists, a file cannot be read, there are fewer than two short
            texts, the tokenizer is broken or no WordPiece, a setting is out of its range, or the
            teacher's vectors have fewer than ``dim`` numbers.
    """
    settings = settings or Settings()
    report = report or (lambda _what, _done, _of: None)
    if out.exists():
        raise ModernPubMedError("exists already", file=out, remedy="choose another --out")
    _check(settings, teacher)
    base = _tokenizer(tokenizer)
    read: list[Texts] = []
    for number, file in enumerate(files):
        report("files read", number, len(files))
        read.append(read_texts(file))
    row_of: dict[str, int] = {}
    pairs: list[_Pairs] = []
    for one in read:
        anchors, positives = (
            np.array([row_of.setdefault(text, len(row_of)) for text in side], dtype=np.int64)
            for side in (one.anchors, one.positives)
        )
        if one.positives:
            pairs.append((anchors, positives))
    texts = list(row_of)
    sample = _sample(texts, settings)
    report("tokens counted", 0, len(texts))
    words = adapted(base, texts, settings.tokens)
    bag = bags(words, texts)
    table = _start(teacher, words, bag, settings, report)
    wanted = asked(teacher, [texts[row] for row in sample], "teacher's vectors of texts", report)
    table = _trained(table, bag, pairs, (sample, wanted), settings, report)
    table = _turned(table, bag, sample)
    manifest = Manifest(
        kind="model",
        inputs={
            "teacher": teacher.fingerprint,
            "tokenizer": sha256(tokenizer),
            **{str(one.file): sha256(one.file) for one in read},
        },
        settings={"teacher": teacher.name, "static": asdict(settings)},
        counts={
            "tokens": len(table),
            "texts": len(texts),
            "pairs": sum(len(anchors) for anchors, _ in pairs),
            "teacher_texts": len(sample),
        },
        seed=settings.seed,
    )
    with replacing(out) as temporary:
        save_model(_model(table, words), temporary)
        # safetensors writes it for its owner alone.
        (temporary / "model.safetensors").chmod(0o644)
        manifest.write(temporary)
    return manifest


def _check(settings: Settings, teacher: DocumentEncoder) -> None:
    if not 1 <= settings.dim <= teacher.dimension:
        raise ModernPubMedError(
            f"dim is {settings.dim}, and the vectors of {teacher.name} have {teacher.dimension}",
            remedy=f"give 1 to {teacher.dimension}",
        )
    for name, least in (("tokens", settings.dim + 1), ("teacher_texts", 2), ("steps", 0)):
        if (number := getattr(settings, name)) < least:
            raise ModernPubMedError(
                f"{name.replace('_', ' ')} is {number}", remedy=f"give {least} or more"
            )


def _tokenizer(file: Path) -> Tokenizer:
    try:
        return Tokenizer.from_file(str(file))
    except Exception as error:  # tokenizers raises bare Exception
        raise ModernPubMedError(
            f"not a readable tokenizer ({error})", file=file, remedy="copy the folder again"
        ) from error


def _sample(texts: Sequence[str], settings: Settings) -> NDArray[np.int64]:
    """The rows of short texts, evenly from all of them."""
    short = [row for row, text in enumerate(texts) if len(text) <= settings.teacher_characters]
    if len(short) < 2:
        raise ModernPubMedError(
            f"{len(short)} different texts of at most {settings.teacher_characters} characters",
            remedy="give more texts, and not only long ones",
        )
    count = min(settings.teacher_texts, len(short))
    return np.array([short[row * len(short) // count] for row in range(count)], dtype=np.int64)


def _start(
    teacher: DocumentEncoder,
    tokenizer: Tokenizer,
    texts: Bags,
    settings: Settings,
    report: Report,
) -> Floats:
    """Steps 1 and 2: the table before it is trained, ``[tokens, dim]``."""
    tokens = [str(tokenizer.id_to_token(row)) for row in range(tokenizer.get_vocab_size())]
    vectors = asked(
        teacher,
        [token.removeprefix(CONTINUED) for token in tokens],
        "teacher's vectors of tokens",
        report,
    )
    count = np.bincount(texts.ids, minlength=len(tokens)) + 0.5
    weights = settings.sif / (settings.sif + count / count.sum())
    centred = vectors - vectors.mean(axis=0)
    table = centred @ principal_axes(centred)[:, : settings.dim]
    table *= weights[:, None].astype(np.float32)
    table[UNKNOWN] = 0
    scaled: Floats = table * np.float32(_SCALE / table.std())
    return scaled


def _trained(
    table: Floats,
    texts: Bags,
    pairs: Sequence[_Pairs],
    taught: tuple[NDArray[np.int64], Floats],
    settings: Settings,
    report: Report,
) -> Floats:
    """Step 3. A step takes pairs of one file, as often as it has pairs, and texts."""
    random = np.random.default_rng(settings.seed)
    # Dense gradients: sparse ones hold a vector for each token of each text, and take five times
    # as long a step.
    bag = _bag(table, freeze=False)
    adam = torch.optim.Adam(bag.parameters(), betas=(0.9, 0.99), fused=True)
    objective = Objective(settings.temperature, symmetric=True)
    sample, wanted = taught
    sampled = _rows(random, len(sample), settings.batch)
    drawn = [_rows(random, len(anchors), settings.batch) for anchors, _ in pairs]
    sizes = np.array([len(anchors) for anchors, _ in pairs], dtype=np.float64)
    losses: list[float] = []
    for step in range(settings.steps):
        adam.param_groups[0]["lr"] = (
            settings.learning_rate * min(1, (step + 1) / _WARMUP) * (1 - step / settings.steps)
        )
        rows = next(sampled)
        loss = settings.agreement * agreement(
            _vectors(bag, texts, sample[rows]),
            torch.from_numpy(wanted[rows]),
            settings.agreement_temperature,
        )
        if pairs:
            number = int(random.choice(len(pairs), p=sizes / sizes.sum()))
            rows = next(drawn[number])
            anchors, positives = (side[rows] for side in pairs[number])
            loss = loss + _contrast(bag, texts, anchors, positives, objective)
        adam.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        adam.step()
        losses = [*losses[-49:], loss.item()]
        report(f"training, loss {np.mean(losses):.3f}", step + 1, settings.steps)
    trained: Floats = bag.weight.detach().numpy()
    return trained


def _contrast(
    bag: nn.EmbeddingBag,
    texts: Bags,
    anchors: NDArray[np.int64],
    positives: NDArray[np.int64],
    objective: Objective,
) -> Tensor:
    """InfoNCE of some pairs; what shares a text with another pair is no negative of it."""
    alike = (anchors[:, None] == anchors) | (positives[:, None] == positives)
    related = alike | (anchors[:, None] == positives)
    np.fill_diagonal(related, val=False)
    return info_nce(
        Vectors.of_pairs(_vectors(bag, texts, anchors), _vectors(bag, texts, positives)),
        objective,
        related=torch.from_numpy(related),
        related_queries=torch.from_numpy(related.T),
    ).loss


def _bag(table: Floats, *, freeze: bool = True) -> nn.EmbeddingBag:
    """The table as means of its rows, in which the unknown token says nothing."""
    return nn.EmbeddingBag.from_pretrained(
        torch.from_numpy(table), freeze=freeze, mode="mean", padding_idx=UNKNOWN
    )


def _vectors(bag: nn.EmbeddingBag, texts: Bags, rows: NDArray[np.int64]) -> Tensor:
    ids, offsets = texts.take(rows)
    vectors: Tensor = bag(torch.from_numpy(ids), torch.from_numpy(offsets))
    return vectors


def _rows(random: np.random.Generator, count: int, batch: int) -> Iterator[NDArray[np.int64]]:
    """Batches of rows without end: each row once before any comes again."""
    batch = min(batch, count)
    while True:
        order = random.permutation(count)
        for start in range(0, count - batch + 1, batch):
            yield order[start : start + batch]


def _turned(table: Floats, texts: Bags, sample: NDArray[np.int64]) -> Floats:
    """Step 4."""
    vectors = functional.normalize(_vectors(_bag(table), texts, sample), dim=1).numpy()
    turned: Floats = table @ principal_axes(vectors)
    # The unknown token next to nothing, so that a text of nothing else still has a direction.
    turned[UNKNOWN, -1] = _UNKNOWN_SIZE
    return turned


def _model(table: Floats, tokenizer: Tokenizer) -> SentenceTransformer:
    return SentenceTransformer(
        modules=[
            StaticEmbedding(tokenizer, embedding_weights=table.astype(np.float16)),
            Normalize(),
        ],
        device="cpu",
        similarity_fn_name="cosine",
    )
