"""Threads: what the container may use, in both versions of control groups."""

from __future__ import annotations

from pathlib import Path

import pytest

from modernpubmed import threads
from modernpubmed.threads import usable_threads


@pytest.fixture
def mount(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(threads, "usable_cores", lambda: 64)
    return tmp_path / "cgroup"


def group(mount: Path, path: str, name: str, content: str) -> None:
    (mount / path).mkdir(parents=True, exist_ok=True)
    (mount / path / name).write_text(content + "\n")


def own(tmp_path: Path, content: str) -> Path:
    file = tmp_path / "own"
    file.write_text(content + "\n")
    return file


@pytest.mark.parametrize(
    ("quota", "expected"),
    [("200000 100000", 2), ("150000 100000", 2), ("50000 100000", 1), ("max 100000", 64)],
)
def test_a_quota_of_version_2(mount: Path, tmp_path: Path, quota: str, expected: int):
    group(mount, "", "cpu.max", quota)
    assert usable_threads(mount, own(tmp_path, "0::/")) == expected


def test_the_tightest_group_above_counts(mount: Path, tmp_path: Path):
    group(mount, "system.slice/docker-1", "cpu.max", "800000 100000")
    group(mount, "system.slice", "cpu.max", "300000 100000")
    assert usable_threads(mount, own(tmp_path, "0::/system.slice/docker-1")) == 3


def test_a_path_of_the_host_falls_back_to_the_top(mount: Path, tmp_path: Path):
    group(mount, "", "cpu.max", "400000 100000")
    assert usable_threads(mount, own(tmp_path, "0::/kubepods/not/mounted")) == 4


def test_a_quota_of_version_1(mount: Path, tmp_path: Path):
    group(mount, "cpu/docker/1", "cpu.cfs_quota_us", "600000")
    group(mount, "cpu/docker/1", "cpu.cfs_period_us", "100000")
    group(mount, "cpu", "cpu.cfs_quota_us", "-1")
    group(mount, "cpu", "cpu.cfs_period_us", "100000")
    lines = "11:memory:/docker/1\n3:cpu,cpuacct:/docker/1\n1:cpuset:/x"
    assert usable_threads(mount, own(tmp_path, lines)) == 6


def test_no_groups_and_nonsense_mean_no_limit(mount: Path, tmp_path: Path):
    assert usable_threads(mount, tmp_path / "missing") == 64
    group(mount, "", "cpu.max", "many")
    assert usable_threads(mount, own(tmp_path, "0::/")) == 64


def test_cores_are_those_of_the_process():
    import os

    assert threads.usable_cores() == len(os.sched_getaffinity(0))
