"""Many files at a time: whatever happens to one file, process or node, the others' work is kept."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from modernpubmed.errors import ModernPubMedError
from modernpubmed.pubmed.convert import FileReport, convert
from modernpubmed.pubmed.workers import convert_all, finished

needs_proc = pytest.mark.skipif(
    not Path("/proc/self/task").exists(), reason="finds the workers in Linux's /proc"
)


@pytest.fixture
def jobs(nlm, tmp_path):
    """Twelve files and their targets; number n holds 20 n records."""
    sources = [
        nlm.write(n, *(nlm.record(100 * n + k) for k in range(20 * n)), nlm.delete(n))
        for n in range(1, 13)
    ]
    return [(source, tmp_path / "out" / source.name[:13]) for source in sources]


def contents(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def expected(jobs, tmp_path):
    """What one process makes of the same files, one after the other."""
    for source, target in jobs:
        convert(source, tmp_path / "expected" / target.name)
    return contents(tmp_path / "expected")


@pytest.mark.parametrize("workers", [1, 3, None])
def test_the_same_bytes_with_any_number_of_processes(jobs, tmp_path, workers):
    seen = []
    found = dict(convert_all(jobs, workers=workers, report=lambda *done: seen.append(done)))
    assert {source: report.articles for source, report in found.items()} == {
        source: 20 * n for n, (source, _) in enumerate(jobs, start=1)
    }
    assert seen == [(n, 12) for n in range(1, 13)]
    assert contents(tmp_path / "out") == expected(jobs, tmp_path)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_bad_file_costs_no_other_file_anything(jobs, tmp_path, workers):
    bad, missing, odd = (jobs[place][0] for place in (1, 5, 7))
    bad.write_bytes(bad.read_bytes()[:-9])
    missing.unlink()
    odd.write_bytes(jobs[8][0].read_bytes())
    found = dict(convert_all(jobs, workers=workers))
    errors = {s.name: e for s, e in found.items() if isinstance(e, ModernPubMedError)}
    assert sorted(errors) == [bad.name, missing.name, odd.name]
    assert "its MD5 is" in errors[bad.name].cause
    assert "cannot be read" in errors[missing.name].cause
    assert "its MD5 is" in errors[odd.name].cause
    assert all(errors[s.name].file == str(s) for s in (bad, missing, odd))
    assert errors[bad.name].remedy == "fetch the file again"
    assert str(errors[bad.name]).count("Remedy") == 1
    assert len(list((tmp_path / "out").iterdir())) == 9


def test_what_is_finished_is_not_done_again(jobs):
    list(convert_all(jobs, workers=2))
    made = {target: target.stat().st_ino for _, target in jobs}
    changed, lost, spoilt = (jobs[place] for place in (0, 1, 2))
    changed[0].write_bytes(jobs[3][0].read_bytes())
    changed[0].with_name(f"{changed[0].name}.md5").unlink()
    (lost[1] / "report.json").unlink()
    report = json.loads((spoilt[1] / "report.json").read_text())
    (spoilt[1] / "report.json").write_text(json.dumps(report | {"sha256": "0" * 64}))
    assert [finished(*job) is not None for job in jobs] == [False] * 3 + [True] * 9
    found = dict(convert_all(jobs, workers=2))
    assert all(isinstance(report, FileReport) for report in found.values())
    again = [target.stat().st_ino != made[target] for _, target in jobs]
    assert again == [True] * 3 + [False] * 9
    assert found[changed[0]].articles == 80


def test_no_jobs_and_wrong_ones(jobs):
    assert list(convert_all([])) == []
    with pytest.raises(ModernPubMedError, match="less than 1"):
        list(convert_all(jobs, workers=0))
    with pytest.raises(ModernPubMedError, match="one target"):
        list(convert_all([jobs[0], (jobs[1][0], jobs[0][1])]))


def children():
    """Process ids of the workers of this process."""
    return [pid for pid in workers_of(os.getpid()) if b"workers" in command(pid)]


def workers_of(pid):
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(OSError):  # a thread that is gone meanwhile
            found += map(int, (task / "children").read_text().split())
    return found


def command(pid):
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def hanging(nlm, number):
    """A named pipe in place of a file: reading it waits until somebody writes."""
    path = nlm.path(number)
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    return path


def reading(path):
    """The workers that have the file open."""
    found = []
    for pid in children():
        try:
            opened = [os.path.realpath(file) for file in Path(f"/proc/{pid}/fd").iterdir()]
        except OSError:  # gone meanwhile
            continue
        if str(path) in opened:
            found.append(pid)
    return found


def kill_when_reading(path, times, then=None):
    """Kills the worker that reads the pipe, so many times; then gives the next one the content."""
    # Open in both directions: readers need not wait for a writer then, only for what it writes.
    pipe = os.open(path, os.O_RDWR)
    seen = set()

    def run():
        while len(seen) < times + (then is not None):
            for pid in set(reading(path)) - seen:
                seen.add(pid)
                if len(seen) <= times:
                    os.kill(pid, signal.SIGKILL)
                else:
                    os.write(pipe, then)
            time.sleep(0.02)
        os.close(pipe)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


@needs_proc
def test_a_killed_worker_is_replaced_and_its_file_tried_once_more(jobs, nlm, tmp_path):
    path = jobs[4][0]
    data = path.read_bytes()
    hanging(nlm, 5)
    thread = kill_when_reading(path, 1, then=data)
    found = dict(convert_all(jobs, workers=2))
    thread.join()
    assert all(isinstance(report, FileReport) for report in found.values())
    path.unlink()
    path.write_bytes(data)
    assert contents(tmp_path / "out") == expected(jobs, tmp_path)


@needs_proc
def test_a_file_that_kills_every_worker_is_named(jobs, nlm, tmp_path):
    path, target = jobs[4]
    path.with_name(f"{path.name}.md5").unlink()
    hanging(nlm, 5)
    thread = kill_when_reading(path, 2)
    found = dict(convert_all(jobs, workers=2))
    thread.join()
    error = found.pop(path)
    assert isinstance(error, ModernPubMedError)
    assert error.file == str(path)
    assert error.cause.count("by signal 9") == 2
    assert all(isinstance(report, FileReport) for report in found.values())
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == sorted(
        t.name for _, t in jobs if t != target
    )
    assert children() == []


SCRIPT = """
import sys
from pathlib import Path
from modernpubmed.pubmed.workers import convert_all
jobs = [(p, Path(sys.argv[2]) / p.name[:13]) for p in sorted(Path(sys.argv[1]).glob("*.gz"))]
for source, report in convert_all(jobs, workers=2):
    print(source.name, flush=True)
"""


def started(jobs, tmp_path):
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, jobs[0][0].parent, tmp_path / "out"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def gone(pids):
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if not any(Path(f"/proc/{pid}").exists() for pid in pids):
            return True
        time.sleep(0.05)
    return False


@needs_proc
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_stopped_midway_and_run_again(jobs, nlm, tmp_path, how):
    data = jobs[6][0].read_bytes()
    path = hanging(nlm, 7)
    with started(jobs, tmp_path) as process:
        process.stdout.readline()
        pids = workers_of(process.pid)
        process.send_signal(how)
        assert process.wait(30) != 0
        errors = process.stderr.read()
    # no worker outlives it, and none has anything to say
    assert pids
    assert gone(pids)
    assert errors.count("Traceback") == (how == signal.SIGINT)
    if how == signal.SIGINT:
        assert [p.name for p in (tmp_path / "out").iterdir() if p.name.startswith(".")] == []
    path.unlink()
    path.write_bytes(data)
    found = dict(convert_all(jobs, workers=2))
    assert all(isinstance(report, FileReport) for report in found.values())
    assert contents(tmp_path / "out") == expected(jobs, tmp_path)


@needs_proc
def test_a_caller_that_stops_reading_stops_the_workers(jobs):
    outcomes = convert_all(jobs, workers=2)
    next(outcomes)
    assert children()
    outcomes.close()
    assert children() == []


def test_other_folders_beside_the_targets_are_left_alone(jobs, tmp_path):
    out = tmp_path / "out"
    for name in (".cache.abcdefgh", ".git", f"{jobs[0][1].name}.abcdefgh", ".x"):
        (out / name).mkdir(parents=True)
    left = out / f".{jobs[0][1].name}.abcdefgh"
    left.mkdir()
    list(convert_all(jobs[:2], workers=2))
    assert not left.exists()
    assert {p.name for p in out.iterdir()} >= {
        ".cache.abcdefgh", ".git", f"{jobs[0][1].name}.abcdefgh", ".x",
    }  # fmt: skip
