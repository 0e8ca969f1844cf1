"""The same job on Ray: two nodes on this machine, one of which is lost midway."""

import os
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from modernpubmed.errors import MissingExtraError, ModernPubMedError
from modernpubmed.pubmed.convert import FileReport, convert
from modernpubmed.pubmed.workers import convert_all

needs_proc = pytest.mark.skipif(
    not Path("/proc/self/fd").exists(), reason="finds who reads a file in Linux's /proc"
)


def contents(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def jobs_of(nlm, tmp_path, files):
    sources = [
        nlm.write(n, *(nlm.record(1000 * n + k) for k in range(200)), nlm.delete(n))
        for n in range(1, files + 1)
    ]
    return [(source, tmp_path / "out" / source.name[:13]) for source in sources]


def expected(jobs, tmp_path):
    for source, target in jobs:
        convert(source, tmp_path / "expected" / target.name)
    return contents(tmp_path / "expected")


@pytest.fixture
def cluster(monkeypatch):
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    cluster_utils = pytest.importorskip("ray.cluster_utils")
    small = {"num_cpus": 1, "object_store_memory": 80_000_000, "include_dashboard": False}
    found = cluster_utils.Cluster(initialize_head=True, head_node_args=small)
    try:
        yield found
    finally:
        found.shutdown()


def readers(path):
    """Processes other than this one that have the file open."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        if int(folder.name) != os.getpid():
            with suppress(OSError):
                if str(path) in map(os.path.realpath, (folder / "fd").iterdir()):
                    found.add(int(folder.name))
    return found


class Held:
    """A file that its readers wait for: a named pipe with its name, until it is let go."""

    def __init__(self, path):
        self.path, self.data = path, path.read_bytes()
        path.unlink()
        os.mkfifo(path)
        self.pipe = os.open(path, os.O_RDWR)

    def let_go(self):
        self.path.unlink()
        self.path.write_bytes(self.data)
        os.write(self.pipe, self.data)  # for who has it open
        os.close(self.pipe)


def lose_a_node(cluster, node, held):
    """Kills the node while both nodes are in the middle of a file."""

    def run():
        deadline = time.monotonic() + 240
        while not all(readers(file.path) for file in held) and time.monotonic() < deadline:
            time.sleep(0.1)
        lost.extend(sorted(file.path.name for file in held if readers(file.path)))
        try:
            cluster.remove_node(node, allow_graceful=False)
        finally:
            for file in held:
                file.let_go()

    lost = []
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread, lost


@needs_proc
@pytest.mark.slow
@pytest.mark.parametrize("files", [8, pytest.param(60, marks=pytest.mark.long)])
def test_a_lost_node_loses_nothing(cluster, nlm, tmp_path, files):
    jobs = jobs_of(nlm, tmp_path, files)
    right = expected(jobs, tmp_path)
    held = [Held(jobs[place][0]) for place in (files // 2, files // 2 + 1)]
    bad = jobs[1][0]
    bad.write_bytes(b"no gzip")
    node = cluster.add_node(num_cpus=1, object_store_memory=80_000_000)
    cluster.wait_for_nodes()
    thread, lost = lose_a_node(cluster, node, held)
    found = dict(convert_all(jobs, ray=cluster.address))
    thread.join()
    assert lost == [file.path.name for file in held]
    error = found.pop(bad)
    assert isinstance(error, ModernPubMedError)
    assert (error.file, "its MD5 is" in error.cause) == (str(bad), True)
    assert all(isinstance(report, FileReport) for report in found.values())
    assert len(found) == files - 1
    made = contents(tmp_path / "out")
    assert made == {name: data for name, data in right.items() if jobs[1][1].name not in name}


@pytest.mark.slow
def test_a_cluster_of_its_own_and_no_cluster(nlm, tmp_path):
    pytest.importorskip("ray")
    jobs = jobs_of(nlm, tmp_path, 3)
    found = dict(convert_all(jobs, ray="local", workers=2))
    assert all(isinstance(report, FileReport) for report in found.values())
    assert contents(tmp_path / "out") == expected(jobs, tmp_path)
    with pytest.raises(ModernPubMedError, match="no Ray cluster answers"):
        list(convert_all(jobs, ray="127.0.0.1:9"))


def test_without_ray_the_extra_is_named(nlm, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match="'scale'"):
        list(convert_all(jobs_of(nlm, tmp_path, 1), ray="local"))
