"""How many texts a second, with several models side by side in one run.

Machines are shared and noisy, so the models take turns: one round of each, then the next round.
What is quoted is the median and the range over the rounds; figures of different runs, or
machines, are not to be compared. The texts are ours (sentences of the clinical contrast suite, one
alone or a dozen as an abstract), so anybody can repeat it.
"""

from __future__ import annotations

import platform
import statistics
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

from modernpubmed.encoder import TruncationWarning
from modernpubmed.evaluation.contrast import read_contrast_suite
from modernpubmed.evaluation.evaluate import Progress
from modernpubmed.evaluation.measured import Speed
from modernpubmed.protocols import DocumentEncoder
from modernpubmed.threads import usable_cores

_SENTENCES_AN_ABSTRACT = 12
_ABSTRACTS = 48
_SINGLE = 96


def speed_texts() -> list[str]:
    """A mixed set of texts: 48 of the length of an abstract, 96 single sentences.

    >>> texts = speed_texts()
    >>> len(texts), sorted(len(text.split()) for text in texts)[-1] > 120
    (144, True)
    """
    sentences = [triple.paraphrase for triple in read_contrast_suite().triples]
    abstracts = [
        " ".join(sentences[start : start + _SENTENCES_AN_ABSTRACT])
        for start in range(0, _ABSTRACTS * _SENTENCES_AN_ABSTRACT, _SENTENCES_AN_ABSTRACT)
    ]
    return abstracts + sentences[-_SINGLE:]


def measure_speed(
    encoders: Sequence[DocumentEncoder],
    *,
    texts: Sequence[str] | None = None,
    rounds: int = 5,
    sizes: Mapping[str, float] | None = None,
    progress: Progress | None = None,
) -> tuple[Speed, ...]:
    """Texts a second of each model, in turns.

    Args:
        encoders: The models.
        texts: What to encode; None is ``speed_texts()``.
        rounds: How many turns each; one more comes before, to warm up.
        sizes: 10^6 bytes on disk by model name, where known.
        progress: Called after each round.
    """
    texts = speed_texts() if texts is None else texts
    seconds: dict[str, list[float]] = {encoder.name: [] for encoder in encoders}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TruncationWarning)  # speed is asked, not quality
        for turn in range(rounds + 1):
            for encoder in encoders:
                start = time.perf_counter()
                encoder.encode_document(texts)
                if turn:
                    seconds[encoder.name].append(time.perf_counter() - start)
            if progress is not None:
                progress("rounds of encoding", turn, rounds)
    words = sum(len(text.split()) for text in texts)
    return tuple(
        Speed(
            model=encoder.name,
            texts_per_second=len(texts) / statistics.median(seconds[encoder.name]),
            low=len(texts) / max(seconds[encoder.name]),
            high=len(texts) / min(seconds[encoder.name]),
            texts=f"{len(texts)} texts of {words / len(texts):.0f} words on average",
            megabytes=(sizes or {}).get(encoder.name, 0.0),
            dimension=encoder.dimension,
            machine=machine(),
        )
        for encoder in encoders
    )


def machine() -> str:
    """The processor and how many cores this process may use.

    >>> "core" in machine()
    True
    """
    name = platform.processor() or platform.machine()
    information = Path("/proc/cpuinfo")
    if information.is_file():
        for line in information.read_text("utf-8", "replace").splitlines():
            if line.startswith("model name"):
                name = line.partition(":")[2].strip()
                break
    return f"{name}, {usable_cores()} cores"
