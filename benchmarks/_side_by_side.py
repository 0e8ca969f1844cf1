"""Two ways of doing the same work, timed in turn on one machine in one run.

Machines are shared and noisy, so only the ratio means anything, and only with its spread: the two
take turns, and each round gives one ratio.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence


def side_by_side(
    name: str,
    ours: Callable[[], object],
    theirs: Callable[[], object],
    *,
    rounds: int = 7,
    target: float | None = None,
) -> None:
    """Prints one JSON line: how many times faster ours is (median, lowest, highest round).

    Args:
        name: What is measured, and against what.
        ours: Our way; run once before the clock starts.
        theirs: The rival's.
        rounds: How many times each is timed.
        target: The ratio that we promise, where we do.
    """
    ours(), theirs()
    ratios = []
    for number in range(rounds):
        pair = (ours, theirs) if number % 2 else (theirs, ours)
        seconds = {way: _seconds(way) for way in pair}
        ratios.append(seconds[theirs] / seconds[ours])
    show(name, ratios, target)


def show(name: str, ratios: Sequence[float], target: float | None) -> None:
    """Prints the JSON line of some rounds' ratios; arguments as in ``side_by_side``."""
    line = {
        "name": name,
        "ratio": round(statistics.median(ratios), 2),
        "low": round(min(ratios), 2),
        "high": round(max(ratios), 2),
        "target": target,
        "machine": machine(),
    }
    print(json.dumps(line))


def machine() -> str:
    """What it was measured on, and how busy that was."""
    return f"{platform.machine()}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}"


def _seconds(way: Callable[[], object]) -> float:
    start = time.perf_counter()
    way()
    return time.perf_counter() - start
