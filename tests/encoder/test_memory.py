"""Resident memory does not grow with what is encoded."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from modernpubmed.encoder.export import export

pytest.importorskip("resource")  # peak memory of a process, on Unix

STREAM = """
import resource, sys
from modernpubmed import Encoder
encoder = Encoder.load(sys.argv[1], threads=2)
count, words = int(sys.argv[2]), "fever cough kidney liver heart stroke".split()
texts = (" ".join(words[: 1 + row % 6]) + f" {row}" for row in range(count))
assert sum(len(block) for block in encoder.encode_stream(texts)) == count
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.fixture(scope="module")
def exported(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("memory") / "tiny"
    shutil.copytree(tiny_model, folder)
    export(folder)
    return folder


def peak(folder: Path, count: int) -> float:
    """MiB at the most; a kilobyte is the unit on Linux, a byte on macOS."""
    command = [sys.executable, "-c", STREAM, str(folder), str(count)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return int(done.stdout) / (1024 if sys.platform == "linux" else 1024**2)


def test_a_stream_ten_times_as_long_takes_no_more_memory(exported: Path):
    # Two full blocks of the stream; 36,000 more texts would be 5 MB of vectors and more of tokens.
    few, many = peak(exported, 8_192), peak(exported, 45_000)
    assert many - few < 4, (few, many)
