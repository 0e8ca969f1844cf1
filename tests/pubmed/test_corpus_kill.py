"""SIGKILL at any moment of ``consolidate``, run again: the same bytes as if nothing had happened.

A process imports everything once and then forks a child for each try, so that a try costs no
imports. A child is killed before the n-th call that changes names on the disk, for every n, or
after a while that chance chooses. In between, whoever reads the corpus must find the state that
was or the one that is to be, never anything else.
"""

import json
import random
import shutil
import subprocess
import sys
import time

import pytest

from modernpubmed.manifest import sha256
from modernpubmed.pubmed import read_articles
from modernpubmed.pubmed.consolidate import consolidate

RENAMES = ["replace", "rename"]
CHANGES = [*RENAMES, "mkdir", "rmdir", "unlink", "fsync"]

# Reads a line [mirror, corpus, names of functions, n], forks, and prints how the child ended: 0 if
# it came to its end, -9 if it was killed before the n-th call of one of the functions (0: never).
FORKS = """
import json, os, signal, sys, tempfile
from pathlib import Path
from modernpubmed.pubmed.consolidate import consolidate

def killing(names, n):
    calls = 0
    def wrap(call):
        def counted(*arguments, **options):
            nonlocal calls
            calls += 1
            if calls == n:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*arguments, **options)
        return counted
    for name in names:
        setattr(os, name, wrap(getattr(os, name)))

# What libraries load and set up when they are first used, once for all children.
with tempfile.TemporaryDirectory() as folder:
    file = Path(folder) / "pubmed26n0001.xml"
    file.write_text("<PubmedArticleSet/>")
    consolidate([file], Path(folder) / "corpus", workers=1)

for line in sys.stdin:
    mirror, corpus, names, n = json.loads(line)
    child = os.fork()
    if not child:
        killing(names, n)
        try:
            consolidate([Path(mirror)], Path(corpus), workers=1)
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""

# Says when it is about to begin, so that no kill is wasted on imports.
READY = """
import sys
from pathlib import Path
from modernpubmed.pubmed.consolidate import consolidate
print("ready", flush=True)
consolidate([Path(sys.argv[1])], Path(sys.argv[2]), workers=int(sys.argv[3]))
"""


@pytest.fixture
def killed():
    """Runs ``consolidate`` in a child that is killed before the n-th call; whether it was."""
    with subprocess.Popen(
        [sys.executable, "-c", FORKS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:

        def run(mirror, corpus, names=(), n=0):
            process.stdin.write(json.dumps([str(mirror), str(corpus), list(names), n]) + "\n")
            process.stdin.flush()
            status = int(process.stdout.readline())
            assert status in (0, -9)
            return status == -9

        yield run
        process.stdin.close()


def state(corpus):
    return [(a.pmid, a.version, a.title) for a in read_articles(corpus)]


def prepare(nlm, out, start):
    """The files before the run that is killed, and those during it."""
    chance = random.Random(5)

    def write(number, count, year=26):
        records = [
            nlm.record(chance.randint(1, 80), f"{year}.{number}.{place}", chance.choice((1, 1, 2)))
            for place in range(count)
        ]
        gone = nlm.delete(*(chance.randint(1, 80) for _ in range(5)))
        nlm.write(number, *records, gone, year=year)

    if start == "nothing":
        write(1, 30), write(2, 30)
        return []
    year = 25 if start == "a year" else 26
    write(1, 40, year), write(2, 30, year)
    consolidate([nlm.folder], out, workers=1)
    before = state(out)
    if start == "an update":
        write(1, 40)  # republished
        write(3, 20)
    else:
        write(1, 70), write(2, 70)
    return before


@pytest.mark.parametrize("start", ["nothing", "an update", "a year"])
@pytest.mark.parametrize(
    "names", [RENAMES, pytest.param(CHANGES, marks=pytest.mark.long)], ids=["renames", "all"]
)
def test_killed_before_every_change(nlm, tmp_path, killed, start, names):
    base, whole, out = tmp_path / "base", tmp_path / "whole", tmp_path / "out"
    before = prepare(nlm, base, start)
    if base.exists():
        shutil.copytree(base, whole)
    assert not killed(nlm.folder, whole)
    after, digest = state(whole), sha256(whole)
    tries = 0
    while True:
        tries += 1
        shutil.rmtree(out, ignore_errors=True)
        if base.exists():
            shutil.copytree(base, out)
        was_killed = killed(nlm.folder, out, names, tries)
        if was_killed and before:
            assert state(out) in (before, after)
        if not was_killed:
            break
        assert not killed(nlm.folder, out)
        assert sha256(out) == digest
    assert sha256(out) == digest
    assert tries > (8 if names == RENAMES else 40)


@pytest.mark.parametrize("rounds", [4, pytest.param(80, marks=pytest.mark.long)])
def test_killed_at_random(nlm, tmp_path, rounds):
    abstract = "Patients with gout were treated and followed up for a year. " * 20
    for number in range(1, 7):
        records = [nlm.record(100 * number + k, f"{number}.{k}", 1, abstract) for k in range(150)]
        nlm.write(number, *records, nlm.record(5, f"5 in {number}"), nlm.delete(100 * number - 1))
    whole, out = tmp_path / "whole", tmp_path / "out"
    consolidate([nlm.folder], whole, workers=1)
    digest = sha256(whole)
    chance = random.Random()
    length, kills = 3.0, 0
    for number in range(rounds):
        workers = 1 + number % 2
        command = [sys.executable, "-c", READY, str(nlm.folder), str(out), str(workers)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout.readline() == "ready\n"
            start = time.monotonic()
            try:
                status = process.wait(chance.uniform(0, length))
            except subprocess.TimeoutExpired:
                process.kill()
                status = process.wait()
        kills += status == -9
        if status == 0:
            # It came to its end: from here on, kill sooner.
            length = max(0.3, time.monotonic() - start)
            assert sha256(out) == digest
            shutil.rmtree(out)
    consolidate([nlm.folder], out, workers=2)
    assert sha256(out) == digest
    assert kills
