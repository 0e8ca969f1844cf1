"""Vectors of many texts, written as they come: whole, resumed, refused."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from modernpubmed.encoder import Encoder, encode_to, read_vectors
from modernpubmed.encoder.precision import quantize
from modernpubmed.errors import ModernPubMedError
from modernpubmed.manifest import Manifest

TEXTS = [f"finding {number} of the left kidney" for number in range(25)]


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder.load(threads=1)


def arrow(path: Path) -> pa.Table:
    with pa.memory_map(str(path)) as file:
        return pa.ipc.open_file(file).read_all()


def test_shards_hold_what_encode_gives(encoder: Encoder, tmp_path: Path):
    manifest = encode_to(encoder, tmp_path / "out", iter(TEXTS), shard_rows=10)
    assert manifest.counts == {"texts": 25, "shards": 3, "truncated": 0, "cut_tokens": 0}
    assert [np.load(tmp_path / "out" / name).shape for name in manifest.inputs] == [
        (10, 384),
        (10, 384),
        (5, 384),
    ]
    np.testing.assert_allclose(read_vectors(tmp_path / "out"), encoder.encode(TEXTS), atol=1e-6)
    assert Manifest.read(tmp_path / "out") == manifest


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8", "binary"])
def test_arrow_files_have_ids_and_every_type(encoder: Encoder, tmp_path: Path, dtype: str):
    rows = [(f"PMID{number}", text) for number, text in enumerate(TEXTS[:6])]
    encode_to(encoder, tmp_path, iter(rows), ids=True, dtype=dtype, format="arrow", shard_rows=4)
    table = arrow(tmp_path / "vectors-00001.arrow")
    assert table["id"].to_pylist() == ["PMID4", "PMID5"]
    expected = quantize(encoder.encode(TEXTS[:6]), dtype)
    found = read_vectors(tmp_path)
    assert found.dtype == expected.dtype
    if dtype == "binary":
        assert np.unpackbits(found ^ expected).mean() < 0.01
    else:
        atol = {"float32": 1e-6, "float16": 1e-3, "int8": 1}[dtype]
        np.testing.assert_allclose(found.astype(float), expected.astype(float), atol=atol)


def test_without_ids_arrow_numbers_the_rows(encoder: Encoder, tmp_path: Path):
    encode_to(encoder, tmp_path, TEXTS[:5], format="arrow", shard_rows=3)
    assert arrow(tmp_path / "vectors-00001.arrow")["id"].to_pylist() == [3, 4]


def test_a_stopped_run_goes_on_from_its_last_shard(encoder: Encoder, tmp_path: Path):
    def breaks_off() -> Iterator[str]:
        yield from TEXTS[:17]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        encode_to(encoder, tmp_path, breaks_off(), shard_rows=10)
    assert not (tmp_path / "manifest.json").exists()
    with pytest.raises(ModernPubMedError, match="no readable manifest"):
        read_vectors(tmp_path)
    first = (tmp_path / "vectors-00000.npy").stat().st_mtime_ns
    done: list[tuple[int, int]] = []
    encode_to(
        encoder,
        tmp_path,
        TEXTS,
        shard_rows=10,
        total=25,
        progress=lambda count, of, rate: done.append((count, of)),
    )
    assert done == [(20, 25), (25, 25)]  # the first ten were there
    assert (tmp_path / "vectors-00000.npy").stat().st_mtime_ns == first
    np.testing.assert_allclose(read_vectors(tmp_path), encoder.encode(TEXTS), atol=1e-6)
    # And again, when all is done: nothing is computed, nothing changes.
    before = (tmp_path / "manifest.json").read_bytes()
    done.clear()
    encode_to(encoder, tmp_path, TEXTS, shard_rows=10, progress=lambda *a: done.append(a[:2]))
    assert done == []
    assert (tmp_path / "manifest.json").read_bytes() == before


def test_killed_at_any_moment_the_same_command_ends_with_the_same_bytes(tmp_path: Path):
    texts = tmp_path / "texts.txt"
    texts.write_text("\n".join(TEXTS * 12) + "\n")
    code = (
        "import sys; from pathlib import Path; from modernpubmed.encoder import *;"
        "texts = Path(sys.argv[2]).read_text().split('\\n');"
        "encode_to(Encoder.load(threads=1), sys.argv[1], texts, shard_rows=16)"
    )

    def start(out: Path) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-c", code, str(out), str(texts)])

    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert start(whole).wait() == 0
    for shards in (1, 4, 9):  # as soon as so many are there
        process = start(killed)
        while process.poll() is None and len(list(killed.glob("vectors-*"))) < shards:
            time.sleep(0.002)
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    assert start(killed).wait() == 0
    names = sorted(path.name for path in whole.glob("vectors-*"))
    assert len(names) == 19
    assert not list(killed.glob(".*"))
    for name in (*names, "shards.json"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes(), name


def test_other_texts_settings_or_files_are_refused(encoder: Encoder, tmp_path: Path):
    encode_to(encoder, tmp_path, TEXTS, shard_rows=10)
    with pytest.raises(ModernPubMedError, match=r"vectors-00001\.npy: vectors of other texts"):
        encode_to(encoder, tmp_path, [*TEXTS[:15], "changed", *TEXTS[16:]], shard_rows=10)
    with pytest.raises(ModernPubMedError, match="other texts"):
        encode_to(encoder, tmp_path, TEXTS[:22], shard_rows=10)
    with pytest.raises(ModernPubMedError, match=r"dtype, shard_rows: .* other settings"):
        encode_to(encoder, tmp_path, TEXTS, shard_rows=5, dtype="int8")
    shard = tmp_path / "vectors-00001.npy"
    shard.write_bytes(shard.read_bytes()[:-1] + b"x")
    with pytest.raises(ModernPubMedError, match=r"vectors-00001\.npy: is missing or has changed"):
        encode_to(encoder, tmp_path, TEXTS, shard_rows=10)
    (tmp_path / "shards.json").write_text("{")
    with pytest.raises(ModernPubMedError, match=r"shards\.json: cannot be read"):
        encode_to(encoder, tmp_path, TEXTS, shard_rows=10)
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.docx").touch()
    with pytest.raises(ModernPubMedError, match="something else than vectors"):
        encode_to(encoder, other, TEXTS)
    assert (other / "thesis.docx").exists()


@pytest.mark.parametrize(
    ("texts", "options", "cause"),
    [
        ([], {}, "no texts"),
        ("fever", {}, "one string"),
        (["fever"], {"dtype": "float64"}, "float64"),
        (["fever"], {"format": "csv"}, "csv"),
        ([("1", "fever")], {"ids": True}, "ids have no place"),
        (["fever"], {"shard_rows": 0}, "shard_rows is 0"),
        (["fever", "cough", 3], {"shard_rows": 2}, "text 2: is int"),
    ],
)
def test_bad_input_is_refused(
    encoder: Encoder, tmp_path: Path, texts: list[str], options: dict[str, object], cause: str
):
    with pytest.raises(ModernPubMedError, match=cause):
        encode_to(encoder, tmp_path / "out", texts, **options)


def test_a_stream_needs_the_same_memory_however_long_it_is(tmp_path: Path):
    # Texts of three words, so that the sixteenfold count takes seconds; peak memory of a process of
    # its own, since nothing gives back what a process once had.
    code = (
        "import resource, sys; from modernpubmed.encoder import *;"
        "texts = (f'finding {number} seen' for number in range(int(sys.argv[2])));"
        "encode_to(Encoder.load(threads=1), sys.argv[1], texts, shard_rows=512);"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    peaks = [
        int(
            subprocess.run(
                [sys.executable, "-c", code, str(tmp_path / str(count)), str(count)],
                check=True,
                capture_output=True,
                text=True,
            ).stdout
        )
        for count in (512, 8192)
    ]
    vectors = 8192 * 384 * 4 / 1024  # 12 MiB, that a list of them would take more
    assert peaks[1] - peaks[0] < vectors / 2, peaks


def test_state_names_each_shard(encoder: Encoder, tmp_path: Path):
    encode_to(encoder, tmp_path, TEXTS, shard_rows=20)
    state = json.loads((tmp_path / "shards.json").read_text())
    assert [shard["rows"] for shard in state["shards"]] == [20, 5]
    assert state["settings"]["fingerprint"] == encoder.fingerprint
