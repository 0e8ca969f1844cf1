"""What there is to learn for a nano student: texts, their tokens, and where they should be.

The teacher's vectors are kept in files that are named by what is in them, so that what is computed
once is not computed again: not by a run that goes on, nor by another that shares the folder.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from modernpubmed.errors import ModernPubMedError
from modernpubmed.manifest import replacing
from modernpubmed.protocols import DocumentEncoder
from modernpubmed.training.nano_model import train_tokenizer
from modernpubmed.training.permutation import permuted
from modernpubmed.training.students import Floats, Report, principal_axes

Precision = Literal["auto", "fp32", "bf16"]

_TOKENIZER = "tokenizer.json"
# Texts whose vectors are in one file.
_SHARD = 4096
# Texts that are handed to the tokenizer at a time, and those it is made of.
_TOKENISED, _TOKENIZER_TEXTS = 20_000, 300_000
# Vectors that the principal axes are computed from.
_AXES_TEXTS = 100_000


@dataclass(frozen=True, slots=True)
class NanoSettings:
    """How a nano model is made.

    Attributes:
        vocabulary: Most tokens.
        dim: Hidden size, and numbers of a vector.
        layers: Blocks.
        heads: Attention heads.
        intermediate: Width of the GeGLU.
        max_tokens: The longest text the finished model reads.
        read_tokens: What texts are cut to, for teacher and student alike.
        texts: Most texts that the teacher is asked about, drawn from all.
        held_out: Of these, how many are kept back to measure by, a tenth at most.
        steps: Of training; may be changed when a run goes on.
        batch_tokens: A step.
        agreement: λ, 0 for none.
        temperature: Of the agreement.
        learning_rate: The highest.
        weight_decay: Of matrices; embeddings and norms have none.
        warmup_steps: In which the learning rate rises.
        cooldown: Share of the steps, the last ones, in which it falls to 0 in a line.
        precision: ``auto`` is bf16 where the processor multiplies matrices in it, else fp32.
        checkpoint_every: Steps between checkpoints.
        seed: Of everything that is drawn.
    """

    vocabulary: int = 16_384
    dim: int = 256
    layers: int = 4
    heads: int = 4
    intermediate: int = 384
    max_tokens: int = 2_048
    read_tokens: int = 256
    texts: int = 300_000
    held_out: int = 1_000
    steps: int = 4_000
    batch_tokens: int = 8_192
    agreement: float = 1.0
    temperature: float = 0.05
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    warmup_steps: int = 100
    cooldown: float = 0.4
    precision: Precision = "auto"
    checkpoint_every: int = 100
    seed: int = 42


@dataclass(frozen=True, slots=True)
class Lesson:
    """What there is to learn.

    Attributes:
        tokenizer: The student's.
        ids: The token ids of each of n texts, cut.
        lengths: How many those are, ``[n]``.
        targets: ``[n, d]``, float16 rows of about length 1.
        axes: The teacher's vectors times these are the targets, before they have length 1.
        held_out: How many of the texts, the first ones, are not trained on.
    """

    tokenizer: Tokenizer
    ids: Sequence[NDArray[np.int32]]
    lengths: NDArray[np.int64]
    targets: NDArray[np.float16]
    axes: Floats
    held_out: int


def check(settings: NanoSettings, teacher: DocumentEncoder) -> None:
    """Refuses settings that are out of their range, or more than the teacher has.

    Raises:
        ModernPubMedError: One is; names it.
    """

    def refuse(name: str, remedy: str) -> None:
        raise ModernPubMedError(
            f"{name.replace('_', ' ')} is {getattr(settings, name)}", remedy=remedy
        )

    at_least = {
        "vocabulary": 64,
        "layers": 1,
        "heads": 1,
        "intermediate": 1,
        "read_tokens": 4,
        "max_tokens": settings.read_tokens,
        "batch_tokens": 2 * settings.read_tokens,
        "texts": 4,
        "held_out": 1,
        "steps": 1,
        "warmup_steps": 1,
        "checkpoint_every": 1,
        "agreement": 0,
        "weight_decay": 0,
        "seed": 0,
    }
    for name, least in at_least.items():
        if not getattr(settings, name) >= least:
            refuse(name, f"give {least} or more")
    for name in ("learning_rate", "temperature"):
        if not 0 < getattr(settings, name) < float("inf"):
            refuse(name, "give a number above 0")
    if not 0 < settings.cooldown <= 1:
        refuse("cooldown", "give a number above 0, 1 at most")
    if settings.dim > teacher.dimension:
        refuse("dim", f"give {teacher.dimension} or less, as {teacher.name}'s vectors have")
    # A head's numbers are rotated in pairs.
    if settings.dim < 4 or settings.dim % (2 * settings.heads):
        refuse("dim", f"give a multiple of {2 * settings.heads}, twice the heads")
    if settings.precision not in ("auto", "fp32", "bf16"):
        refuse("precision", "give auto, fp32 or bf16")


def prepared(
    teacher: DocumentEncoder,
    texts: Sequence[str],
    run: Path,
    vectors: Path,
    settings: NanoSettings,
    report: Report,
) -> Lesson:
    """The tokenizer, made of the texts; some of the texts, cut; and the teacher's vectors of these.

    Args:
        teacher: The encoder to learn from.
        texts: Different ones, 4 or more.
        run: Where the tokenizer is kept.
        vectors: The folder for the teacher's vectors.
        settings: How.
        report: Called as the work goes on.
    """
    order = permuted(np.arange(len(texts)), len(texts), ("nano texts", settings.seed))
    file = run / _TOKENIZER
    if not file.exists():
        report("tokenizer made", 0, len(texts))
        made = train_tokenizer(
            (texts[row] for row in order[:_TOKENIZER_TEXTS]), settings.vocabulary
        )
        with replacing(file) as temporary:
            made.save(str(temporary))
    tokenizer = Tokenizer.from_file(str(file))
    drawn = [texts[row] for row in order[: settings.texts]]
    ids, cut = _tokenised(tokenizer, drawn, settings.read_tokens, report)
    taught = np.concatenate(list(_vectors(teacher, cut, vectors, report)))
    some = taught[:: max(1, len(taught) // _AXES_TEXTS)]
    axes = np.ascontiguousarray(principal_axes(some)[:, : settings.dim])
    return Lesson(
        tokenizer,
        ids,
        np.array([len(one) for one in ids], dtype=np.int64),
        _targets(taught, axes),
        axes,
        min(settings.held_out, len(ids) // 10 + 1),
    )


def _tokenised(
    tokenizer: Tokenizer, texts: Sequence[str], most: int, report: Report
) -> tuple[list[NDArray[np.int32]], list[str]]:
    """The ids of the texts, and as much of each text as these stand for."""
    tokenizer.enable_truncation(most)
    ids: list[NDArray[np.int32]] = []
    cut: list[str] = []
    for start in range(0, len(texts), _TOKENISED):
        report("texts tokenised", start, len(texts))
        block = list(texts[start : start + _TOKENISED])
        for text, encoding in zip(block, tokenizer.encode_batch(block), strict=True):
            ids.append(np.array(encoding.ids, dtype=np.int32))
            # The last token is [SEP].
            end = encoding.offsets[-2][1] if encoding.overflowing else len(text)
            cut.append(text[:end])
    tokenizer.no_truncation()
    return ids, cut


def _vectors(
    teacher: DocumentEncoder, texts: Sequence[str], folder: Path, report: Report
) -> Iterator[NDArray[np.float16]]:
    """The teacher's vectors of the texts, block by block; those in the folder are not computed."""
    started, computed = time.monotonic(), 0
    for start in range(0, len(texts), _SHARD):
        block = texts[start : start + _SHARD]
        digest = hashlib.sha256(json.dumps([teacher.fingerprint, *block]).encode()).hexdigest()
        path = folder / f"{digest[:32]}.npy"
        if not path.is_file():
            done, left = start, ""
            if computed:
                seconds = (time.monotonic() - started) / computed * (len(texts) - start)
                left = f", {timedelta(seconds=round(seconds))} left"
            report(f"teacher's vectors{left}", done, len(texts))
            encoded = teacher.encode_document(block).astype(np.float16)
            with replacing(path) as temporary, temporary.open("wb") as file:
                np.save(file, encoded)
            computed += len(block)
        shard: NDArray[np.float16] = np.load(path, allow_pickle=False)
        yield shard


def _targets(vectors: NDArray[np.float16], axes: Floats) -> NDArray[np.float16]:
    """The vectors along the axes, at length 1."""
    targets = np.empty((len(vectors), axes.shape[1]), dtype=np.float16)
    for start in range(0, len(vectors), _SHARD):
        turned = vectors[start : start + _SHARD].astype(np.float32) @ axes
        length = np.linalg.norm(turned, axis=1, keepdims=True)
        targets[start : start + _SHARD] = turned / np.maximum(length, np.float32(1e-6))
    return targets
