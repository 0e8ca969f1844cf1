"""The same folder by many machines: whole, resumed after a kill, with a machine lost on the way.

One cluster for the module, on the loopback interface; starting its processes is what takes the
time. Waiting is generous: on a busy machine a worker may need half a minute to start.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from modernpubmed.cluster import ALONE
from modernpubmed.encoder import Encoder, bulk, encode_to
from modernpubmed.encoder.bulk import encode_with_ray
from modernpubmed.errors import MissingExtraError, ModernPubMedError

#: Ray's workers give way to all else on a machine, and would be starved by the other tests.
QUICK = {**ALONE, "RAY_worker_niceness": "0"}
#: Seconds for what takes seconds on a machine that does nothing else.
WAIT = 300
TEXTS = [f"finding {number} of the left kidney" for number in range(96)]


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder.load(threads=1)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head that computes nothing, where the driver is, and one machine of one processor."""
    os.environ.update(QUICK)
    import ray
    from ray.cluster_utils import Cluster

    size = {"object_store_memory": 128 << 20, "num_gpus": 0}
    head = {"num_cpus": 0, "include_dashboard": False, **size}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    cluster.size = {"num_cpus": 1, **size}
    cluster.first = cluster.add_node(**cluster.size)
    ray.init(cluster.address, logging_level=logging.ERROR, log_to_driver=False)
    yield cluster
    ray.shutdown()
    cluster.shutdown()


@pytest.fixture(autouse=True)
def small_units(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "_UNIT", 8)


def same_files(one: Path, other: Path) -> None:
    """Byte for byte, but for the time in the manifest; nothing unfinished lies about."""
    names = sorted(path.name for path in one.iterdir())
    assert sorted(path.name for path in other.iterdir()) == names
    for name in set(names) - {"manifest.json"}:
        assert (one / name).read_bytes() == (other / name).read_bytes(), name
    manifests = [json.loads((folder / "manifest.json").read_text()) for folder in (one, other)]
    for manifest in manifests:
        del manifest["created"]
    assert manifests[0] == manifests[1]


# --- without a cluster --------------------------------------------------------------------------


def test_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"modernpubmed\[scale\]"):
        encode_with_ray(None, tmp_path / "out", TEXTS, total=96)
    assert not (tmp_path / "out").exists()


def test_only_missing_shards_are_computed(encoder: Encoder, tmp_path: Path):
    whole, holed = tmp_path / "whole", tmp_path / "holed"
    for folder in (whole, holed):
        encode_to(encoder, folder, TEXTS[:25], shard_rows=10)
    state = json.loads((holed / "shards.json").read_text())
    del state["shards"][1]
    (holed / "shards.json").write_text(json.dumps(state))
    for name in ("vectors-00001.npy", "manifest.json"):
        (holed / name).unlink()
    kept = (holed / "vectors-00002.npy").stat().st_mtime_ns
    with pytest.raises(ModernPubMedError, match=r"vectors-00002\.npy: vectors of other texts"):
        encode_to(encoder, holed, TEXTS[:10], shard_rows=10)
    done: list[int] = []
    encode_to(encoder, holed, TEXTS[:25], shard_rows=10, progress=lambda *a: done.append(a[0]))
    assert done == [20]
    assert (holed / "vectors-00002.npy").stat().st_mtime_ns == kept
    same_files(whole, holed)


def test_a_whole_folder_needs_no_cluster_and_is_checked(encoder: Encoder, tmp_path: Path):
    encode_to(encoder, tmp_path, TEXTS[:25], shard_rows=10)
    manifest = encode_with_ray(None, tmp_path, TEXTS[:25], total=25, shard_rows=10)
    assert manifest.counts["texts"] == 25
    with pytest.raises(ModernPubMedError, match="other texts"):
        encode_with_ray(None, tmp_path, [*TEXTS[:24], "changed"], total=25, shard_rows=10)
    with pytest.raises(ModernPubMedError, match="more texts than the 25"):
        encode_with_ray(None, tmp_path, TEXTS[:26], total=25, shard_rows=10)


@pytest.mark.parametrize(
    ("texts", "options", "cause"),
    [
        ([], {"total": 0}, "no texts"),
        ("fever", {"total": 1}, "one string"),
        (["fever"], {"total": 1, "dtype": "float64"}, "float64"),
        (["fever"], {"total": 1, "cpus": 0}, "cpus is 0"),
        (["fever"], {"total": 1, "loading": {"dim": 0}}, "dim"),
    ],
)
def test_bad_input_is_refused(
    tmp_path: Path, texts: list[str], options: dict[str, Any], cause: str
):
    with pytest.raises(ModernPubMedError, match=cause):
        encode_with_ray(None, tmp_path / "out", texts, **options)
    assert not (tmp_path / "out").exists()


# --- with one -----------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_killed_run_goes_on(encoder: Encoder, tmp_path: Path):
    """On a cluster of its own, which listens to nobody else and ends with the driver."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    texts = [f"{text}, seen {number} times" for number in range(6) for text in TEXTS]
    code = (
        "import json, sys; from modernpubmed.encoder import bulk; bulk._UNIT = 8;"
        "texts = json.load(sys.stdin);"
        "bulk.encode_with_ray(None, sys.argv[1], texts, total=len(texts), shard_rows=16)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(killed)],
        stdin=subprocess.PIPE,
        text=True,
        env={**os.environ, **QUICK},
    )
    try:
        assert process.stdin is not None
        with process.stdin:
            json.dump(texts, process.stdin)
        end = time.monotonic() + WAIT
        while len(list(killed.glob("vectors-*"))) < 3:
            assert process.poll() is None
            assert time.monotonic() < end
            time.sleep(0.01)
        children = psutil.Process(process.pid).children(recursive=True)
        assert {"gcs_server", "raylet"} <= {child.name() for child in children}
        listening = {
            connection.laddr.ip.removeprefix("::ffff:")
            for child in children
            for connection in child.net_connections("inet")
            if connection.status == psutil.CONN_LISTEN
        }
    finally:
        process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert listening == {"127.0.0.1"}
    assert psutil.wait_procs(children, timeout=WAIT)[1] == []
    there = {path.name: path.stat().st_mtime_ns for path in killed.glob("vectors-*")}
    assert 3 <= len(there) < 36
    # Without Ray, since that is the same and quicker here; with it, below.
    encode_to(encoder, killed, texts, shard_rows=16)
    encode_to(encoder, whole, texts, shard_rows=16)
    same_files(whole, killed)
    stated = [name for name in there if (killed / name).stat().st_mtime_ns == there[name]]
    assert len(stated) >= len(there) - 1  # one may not have been in shards.json yet


def test_a_machine_lost_on_the_way_loses_nothing(cluster: Any, tmp_path: Path):
    """Whichever machine works at first is lost; what it had in hand goes to the other."""
    whole, out = tmp_path / "whole", tmp_path / "out"
    rows = [(f"PMID{number}", f"{text} " * (1 + number % 40)) for number, text in enumerate(TEXTS)]
    options: dict[str, Any] = {"ids": True, "format": "arrow", "dtype": "int8", "shard_rows": 20}
    short = Encoder.load(threads=1, max_tokens=64)
    encode_to(short, whole, rows, **options)
    assert short.truncated > 10
    # One shard is there already.
    encode_to(short, out, rows[:20], **options)
    (out / "manifest.json").unlink()
    done: list[int] = []

    def progress(count: int, of: int, _rate: float) -> None:
        done.append(count)
        if count < of and len(done) == 2:
            cluster.add_node(**cluster.size)
            cluster.remove_node(cluster.first, allow_graceful=False)

    encode_with_ray(
        None,
        out,
        iter(rows),
        total=96,
        address=cluster.address,
        loading={"max_tokens": 64},
        progress=progress,
        **options,
    )
    assert done[-1] == 96
    assert len(done) == len({*done}) == 11  # units of 8, 8 and 4 texts a shard, and 8, 8 at the end
    same_files(whole, out)


def test_a_bad_text_is_named_and_reading_stops_with_its_own_error(
    cluster: Any, encoder: Encoder, tmp_path: Path
):
    def breaks_off() -> Iterator[str]:
        yield from TEXTS[:30]
        raise ModernPubMedError("damaged", file="a.txt", record="line 31")

    place: dict[str, Any] = {"address": cluster.address, "shard_rows": 8, "total": 40}
    with pytest.raises(ModernPubMedError, match=r"^text 21: is int, not a string"):
        encode_with_ray(None, tmp_path / "int", [*TEXTS[:21], 3, *TEXTS[22:40]], **place)
    with pytest.raises(ModernPubMedError, match=r"^a\.txt: line 31: damaged"):
        encode_with_ray(None, tmp_path / "out", breaks_off(), **place)
    with pytest.raises(ModernPubMedError, match=r"^text 2: is 1 tokens longer"):
        encode_with_ray(
            None,
            tmp_path / "long",
            ["fever", "cough", "fever and cough", *TEXTS[:37]],
            loading={"long": "error", "max_tokens": 4},
            **place,
        )
    # What was whole by then is there, and the same call with the texts mended goes on.
    encode_with_ray(None, tmp_path / "out", TEXTS[:40], **place)
    encode_to(encoder, tmp_path / "whole", TEXTS[:40], shard_rows=8)
    same_files(tmp_path / "whole", tmp_path / "out")
