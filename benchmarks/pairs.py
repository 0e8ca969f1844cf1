"""What making N pairs takes: peak memory and seconds a million, on invented pairs in a stream.

``python benchmarks/pairs.py --pairs 1000000`` writes N title–abstract pairs to a file, some of them
near-duplicates of earlier ones, and runs ``build_pairs`` on it in a process of its own. Texts are
drawn words, so they share few shingles and fill the hash tables as different articles do.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from _side_by_side import machine
from modernpubmed.pairs import build_pairs, write_pairs
from modernpubmed.records import Pair

#: Every how manieth abstract is an earlier one with one word changed.
NEAR = 50
#: Gigabytes that ten million pairs may take.
PROMISED = 8.0

_FUNCTION = np.array(
    [
        "the",
        "of",
        "and",
        "to",
        "with",
        "by",
        "that",
        "were",
        "from",
        "are",
        "for",
        "was",
        "is",
        "this",
    ]
)


def invented(count: int, words: int) -> Iterator[Pair]:
    """Pairs of drawn words, a third of them function words; Zipf's law for the others."""
    dice = np.random.default_rng(6)
    vocabulary = np.array([f"word{number}" for number in range(50_000)])
    earlier = ""
    for start in range(0, count, 1_000):
        drawn = np.minimum(dice.zipf(1.2, (1_000, words + 8)) - 1, 49_999)
        texts = vocabulary[(drawn + dice.integers(0, 50_000, drawn.shape)) % 50_000]
        texts[:, ::3] = dice.choice(_FUNCTION, texts[:, ::3].shape)
        for row in range(min(1_000, count - start)):
            number = start + row
            title, text = " ".join(texts[row, :8]), " ".join(texts[row, 8:])
            if number % NEAR == NEAR - 1:
                text = earlier + " indeed"
            elif number % NEAR == 0:
                earlier = text
            yield Pair(f"{title} {number}", text, number + 1)


def peak() -> float:
    """Peak resident memory in GB: of this process and of its largest child, together."""
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(resource.getrusage(kind).ru_maxrss for kind in kinds) / 2**20


def measured(source: Path, out: Path, workers: int, answer: Connection) -> None:
    """Builds the pairs; sends memory before and at the peak, seconds, and the counts."""
    before, start = peak(), time.perf_counter()
    manifest = build_pairs([source], out, dev_share=0.02, workers=workers)
    seconds = time.perf_counter() - start
    used = [resource.getrusage(k) for k in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    processor = sum(one.ru_utime + one.ru_stime for one in used)
    answer.send((before, peak(), seconds, processor, dict(manifest.counts), dict(manifest.dropped)))


def run(pairs: int, options: argparse.Namespace) -> tuple[float, float, float, float, Any, Any]:
    """Makes so many pairs; returns what ``measured`` sends."""
    with tempfile.TemporaryDirectory(dir=options.scratch) as scratch:
        source = Path(scratch) / "invented.parquet"
        write_pairs(invented(pairs, options.words), source)
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(
            target=measured, args=(source, Path(scratch) / "out", options.workers, theirs)
        )
        process.start()
        theirs.close()
        answer: tuple[float, float, float, float, Any, Any] = ours.recv()
        process.join()
    return answer


def main() -> None:
    """Makes the pairs, and a fifth of them for the slope, and prints one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=100_000)
    parser.add_argument("--words", type=int, default=100, help="of an abstract")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--scratch", type=Path, help="where the files go")
    options = parser.parse_args()
    fifth = options.pairs // 5
    few = run(fifth, options)[1]
    _, most, seconds, processor, counts, dropped = run(options.pairs, options)
    a_pair = (most - few) * 2**30 / (options.pairs - fifth)
    print(
        json.dumps(
            {
                "name": "pairs: peak memory and time",
                "pairs": options.pairs,
                "kept": counts["train"] + counts["dev"],
                "dropped": dropped,
                "peak_gb": round(most, 2),
                "bytes_a_pair": round(a_pair),
                "ten_million_gb": round(most + a_pair * (1e7 - options.pairs) / 2**30, 2),
                "promised_gb": PROMISED,
                "seconds_a_million": round(seconds * 1e6 / options.pairs),
                "cpu_seconds_a_million": round(processor * 1e6 / options.pairs),
                "workers": options.workers,
                "machine": machine(),
            }
        )
    )


if __name__ == "__main__":
    main()
