"""The mirror against a real HTTP server on loopback that does what servers do on bad days."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import random
import signal
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
import urllib.error
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest

from modernpubmed.cli import main
from modernpubmed.errors import ModernPubMedError
from modernpubmed.pubmed import transfer
from modernpubmed.pubmed.mirror import IncompleteMirrorError, MirrorReport, mirror
from modernpubmed.pubmed.source import verify_md5
from modernpubmed.pubmed.transfer import Manners

OLD = datetime(2026, 1, 10, 14, 5, tzinfo=UTC)
#: As the defaults, for a server that is near and does not mind.
HASTY = Manners(requests_a_second=10_000, pause=0.01)


def content_of(name: str, version: int = 0, size: int = 40_000) -> bytes:
    """Any bytes: a mirror does not look into files."""
    return random.Random(f"{name} {version}").randbytes(size)


@dataclass(frozen=True)
class Fault:
    """What goes wrong with an answer: after ``at`` of its bytes, in so many requests."""

    kind: str
    at: int = 0
    times: int = 1
    headers: dict[str, str] = field(default_factory=dict)
    then: Callable[[], None] = lambda: None


@dataclass(frozen=True)
class Asked:
    method: str
    path: str
    start: int | None
    status: int
    sent: int
    agent: str
    at: float


class Nlm(ThreadingHTTPServer):
    """``/pubmed/baseline/`` and ``/pubmed/updatefiles/``, with faults by path."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.changed: dict[str, datetime] = {}
        self.md5s: dict[str, str] = {}
        self.faults: dict[str, list[Fault]] = {}
        self.asked: list[Asked] = []
        self.lock = threading.Lock()
        self.release = threading.Event()
        self.ranges = True
        self.etags = True
        self.heeds_if_range = True

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/pubmed/"

    def publish(self, name: str, content: bytes, day: datetime = OLD, md5: str = "") -> None:
        folder = "updatefiles" if int(name[9:13]) > 2 else "baseline"
        path = f"{folder}/{name}"
        with self.lock:
            self.files[path] = content
            self.changed[path] = day
            self.md5s[path] = md5 or hashlib.md5(content).hexdigest()  # noqa: S324

    def fault(self, path: str, *faults: Fault) -> None:
        with self.lock:
            self.faults[path] = [one for fault in faults for one in [fault] * fault.times]

    def data(self, path: str) -> list[Asked]:
        return [one for one in self.asked if one.path == path]

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # clients that break off are what this is about


class Handler(BaseHTTPRequestHandler):
    server: Nlm

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        server = self.server
        path = self.path.removeprefix("/pubmed/")
        with server.lock:
            faults = server.faults.get(path, [])
            fault = faults.pop(0) if faults else Fault("none")
        status, sent = 0, 0
        try:
            status, sent = self.answer(path, fault)
        finally:
            with server.lock:
                text = self.headers.get("Range", "")
                start = int(text[6:].partition("-")[0]) if text else None
                agent = self.headers.get("User-Agent", "")
                asked = Asked(self.command, path, start, status, sent, agent, time.monotonic())
                server.asked.append(asked)

    def answer(self, path: str, fault: Fault) -> tuple[int, int]:
        server = self.server
        if fault.kind.isdecimal():
            return self.send(int(fault.kind), b"", fault, fault.headers)
        if path in ("baseline/", "updatefiles/"):
            return self.send(200, self.listing(path).encode(), fault, {})
        if path.endswith(".md5") and path[:-4] in server.files:
            text = f"MD5({Path(path).stem})= {server.md5s[path[:-4]]}\n"
            return self.send(200, text.encode(), fault, {})
        if path not in server.files:
            return self.send(404, b"", fault, {})
        body = server.files[path]
        tag = f'"{hashlib.sha256(body).hexdigest()[:12]}"'
        headers = {"Last-Modified": format_datetime(server.changed[path], usegmt=True)}
        if server.etags:
            headers["ETag"] = tag
        text = self.headers.get("Range", "")
        same = self.headers.get("If-Range") in (tag, headers["Last-Modified"])
        if not text or not server.ranges or (server.heeds_if_range and not same):
            return self.send(200, body, fault, headers)
        start = int(text.removeprefix("bytes=").removesuffix("-"))
        if start >= len(body):
            return self.send(416, b"", fault, {"Content-Range": f"bytes */{len(body)}"})
        headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
        return self.send(206, body[start:], fault, headers)

    def send(
        self, status: int, body: bytes, fault: Fault, headers: dict[str, str]
    ) -> tuple[int, int]:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        if fault.kind != "unsized":
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return status, 0
        if fault.kind == "late":
            fault.then()
        if fault.kind == "garbage":
            body = bytes(len(body))
        if fault.kind in ("truncate", "reset", "stall", "trickle", "replace"):
            self.wfile.write(body[: fault.at])
            self.wfile.flush()
            fault.then()
            if fault.kind == "stall":
                self.server.release.wait(20)
            if fault.kind == "reset":
                time.sleep(0.05)
                linger = struct.pack("ii", 1, 0)
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                self.connection.close()
            if fault.kind == "trickle":
                for byte in body[fault.at :]:
                    self.wfile.write(bytes([byte]))
                    if self.server.release.wait(0.02):
                        break
            return status, fault.at
        self.wfile.write(body)
        if fault.kind != "late":
            fault.then()
        return status, len(body)

    def listing(self, path: str) -> str:
        """As NLM's Apache writes it."""
        rows = []
        for name, body in sorted(self.server.files.items()):
            if not name.startswith(path):
                continue
            day = f"{self.server.changed[name]:%Y-%m-%d %H:%M}"
            short = name.removeprefix(path)
            rows.append(f'<a href="{short}">{short}</a>   {day}   {len(body) / 1024:.0f}K  ')
            rows.append(f'<a href="{short}.md5">{short}.md5</a>   {day}   60  ')
        return (
            f'<pre>Name <hr><a href="/pubmed/">Parent Directory</a>  -\n{"".join(rows)}<hr></pre>'
        )


@pytest.fixture
def nlm() -> Iterator[Nlm]:
    server = Nlm()
    # Polled often: stopping a server waits for the poll.
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    for number in range(1, 5):
        name = f"pubmed26n{number:04}.xml.gz"
        server.publish(name, content_of(name))
    yield server
    server.release.set()
    server.shutdown()
    server.server_close()


FIRST, SECOND = "baseline/pubmed26n0001.xml.gz", "baseline/pubmed26n0002.xml.gz"
THIRD, FOURTH = "updatefiles/pubmed26n0003.xml.gz", "updatefiles/pubmed26n0004.xml.gz"


def tree(folder: Path) -> dict[str, bytes]:
    """What is in a mirror, but for what it remembers."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(".mirror.")
    }


def whole(server: Nlm) -> dict[str, bytes]:
    files = dict(server.files)
    for path, md5 in server.md5s.items():
        files[f"{path}.md5"] = f"MD5({Path(path).name})= {md5}\n".encode()
    return dict(sorted(files.items()))


def run(server: Nlm, folder: Path, manners: Manners = HASTY, **options: object) -> MirrorReport:
    return mirror(folder, base=server.base, manners=manners, **options)  # type: ignore[arg-type]


def test_a_mirror_is_nlms_tree_and_the_next_run_asks_for_nothing(
    nlm: Nlm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("modernpubmed.pubmed.mirror._SHOW_EVERY", 0.0)
    seen: list[tuple[int, int, int]] = []
    done = run(nlm, tmp_path / "m", progress=lambda *of: seen.append(of))
    assert tree(tmp_path / "m") == whole(nlm)
    assert all(verify_md5(tmp_path / "m" / name) for name in nlm.files)
    assert done.new == (FIRST, SECOND, THIRD, FOURTH)
    assert done.sizes == {name: len(nlm.files[name]) for name in done.new}
    assert seen[0] == (0, 4, 0)
    assert seen[-1] == (3, 4, sum(map(len, nlm.files.values())))
    assert Counter(one.path for one in nlm.asked).most_common(1)[0][1] == 1
    assert all(one.agent.startswith("modernpubmed/") for one in nlm.asked)
    nlm.asked.clear()
    again = run(nlm, tmp_path / "m")
    assert (again.kept, again.new) == (4, ())
    assert [one.path for one in nlm.asked] == ["baseline/", "updatefiles/"]


def test_a_row_of_today_is_not_relied_on(nlm: Nlm, tmp_path: Path):
    name = Path(FOURTH).name
    nlm.publish(name, content_of(name), day=datetime.now(UTC))
    run(nlm, tmp_path)
    # Republished within the minute: the index looks the same.
    nlm.publish(name, content_of(name, 1), day=nlm.changed[FOURTH])
    nlm.asked.clear()
    assert run(nlm, tmp_path).republished == (FOURTH,)
    assert tree(tmp_path) == whole(nlm)
    assert {one.path for one in nlm.asked} == {"baseline/", "updatefiles/", FOURTH, f"{FOURTH}.md5"}


def test_without_its_memory_it_reads_what_is_there_and_fetches_nothing(nlm: Nlm, tmp_path: Path):
    run(nlm, tmp_path)
    (tmp_path / ".mirror.json").write_text('{"files": 3}')
    nlm.asked.clear()
    assert run(nlm, tmp_path).kept == 4
    assert all(one.path.endswith(("/", ".md5")) for one in nlm.asked)
    nlm.asked.clear()
    run(nlm, tmp_path)
    assert len(nlm.asked) == 2


@pytest.mark.parametrize(
    ("fault", "answers"),
    [
        (Fault("truncate", 10_000), [(None, 200), (10_000, 206)]),
        (Fault("truncate", 0), [(None, 200), (None, 200)]),
        (Fault("reset", 10_000), [(None, 200), (10_000, 206)]),
        (Fault("503", times=3), [(None, 503)] * 3 + [(None, 200)]),
        (Fault("429"), [(None, 429), (None, 200)]),
        (Fault("garbage"), [(None, 200), (None, 200)]),
        (Fault("unsized"), [(None, 200)]),
    ],
    ids=lambda one: f"{one.kind} {one.at}" if isinstance(one, Fault) else "",
)
def test_what_passes_is_tried_again_where_it_broke_off(
    nlm: Nlm, tmp_path: Path, fault: Fault, answers: list[tuple[int | None, int]]
):
    nlm.fault(SECOND, fault)
    assert len(run(nlm, tmp_path).new) == 4
    assert tree(tmp_path) == whole(nlm)
    until(lambda: len(nlm.data(SECOND)) == len(answers))
    assert [(one.start, one.status) for one in nlm.data(SECOND)] == answers


@pytest.mark.parametrize("kind", ["stall", "trickle"])
def test_a_stall_and_a_trickle_are_broken_off(nlm: Nlm, tmp_path: Path, kind: str):
    """What the server goes on sending takes 20 seconds and 600."""
    nlm.fault(SECOND, Fault(kind, 10_000))
    start = time.monotonic()
    run(nlm, tmp_path, replace(HASTY, silence=0.5))
    assert time.monotonic() - start < 15
    assert tree(tmp_path) == whole(nlm)
    assert 206 in {one.status for one in nlm.data(SECOND)}


@pytest.mark.parametrize("path", ["baseline/", f"{SECOND}.md5"])
def test_lists_and_checksums_are_tried_again_too(nlm: Nlm, tmp_path: Path, path: str):
    nlm.fault(path, Fault("truncate", 20), Fault("503"), Fault("reset", 0))
    run(nlm, tmp_path)
    assert tree(tmp_path) == whole(nlm)


def test_retry_after_is_waited_by_all(nlm: Nlm, tmp_path: Path):
    nlm.fault("updatefiles/", Fault("503", headers={"Retry-After": "1"}))
    run(nlm, tmp_path)
    times = [one.at for one in nlm.asked if one.path == "updatefiles/"]
    assert times[1] - times[0] >= 0.9
    when = format_datetime(datetime.now(UTC) + timedelta(hours=2), usegmt=True)
    nlm.fault("updatefiles/", Fault("503", headers={"Retry-After": when}))
    with pytest.raises(ModernPubMedError, match=r"updatefiles.*503.*wants 7,\d\d\d seconds"):
        run(nlm, tmp_path)


def test_no_more_requests_a_second_than_asked_for(nlm: Nlm, tmp_path: Path):
    start = time.monotonic()
    run(nlm, tmp_path, Manners(requests_a_second=20))
    # Ten requests: two lists, four checksums, four files.
    assert time.monotonic() - start >= 9 / 20


@pytest.mark.parametrize("workers", [1, 3])
def test_as_many_connections_as_workers(nlm: Nlm, tmp_path: Path, workers: int):
    together, most = 0, 0
    met = threading.Event()

    def meet() -> None:
        nonlocal together, most
        with nlm.lock:
            together += 1
            most = max(most, together)
        if most >= workers:
            met.set()
        assert met.wait(10)
        with nlm.lock:
            together -= 1

    for name in nlm.files:
        nlm.fault(name, Fault("late", then=meet))
    run(nlm, tmp_path, Manners(workers=workers, requests_a_second=10_000))
    assert most == workers


def broken_off(server: Nlm, folder: Path, path: str = SECOND, at: int = 10_000) -> None:
    """A mirror with all files but one, of which there is a part."""
    server.fault(path, Fault("truncate", at))
    with pytest.raises(IncompleteMirrorError):
        run(server, folder, Manners(attempts=1, requests_a_second=10_000))
    part = folder / f"{path}.partial"
    assert part.read_bytes() == server.files[path][:at]
    assert not (folder / path).exists()
    server.asked.clear()


def test_the_next_run_goes_on_where_one_ended(nlm: Nlm, tmp_path: Path):
    broken_off(nlm, tmp_path)
    assert run(nlm, tmp_path).new == (SECOND,)
    assert tree(tmp_path) == whole(nlm)
    (asked,) = nlm.data(SECOND)
    assert (asked.start, asked.status) == (10_000, 206)
    assert asked.sent == len(nlm.files[SECOND]) - 10_000


def test_a_partial_file_that_was_whole_is_only_verified(nlm: Nlm, tmp_path: Path):
    broken_off(nlm, tmp_path)
    (tmp_path / f"{SECOND}.partial").write_bytes(nlm.files[SECOND])
    run(nlm, tmp_path)
    assert tree(tmp_path) == whole(nlm)
    assert nlm.data(SECOND) == []


@pytest.mark.parametrize("note", [b"", b"{}", b"[1]", b'{"md5": 3}'])
def test_a_partial_file_of_unknown_version_is_not_gone_on_with(
    nlm: Nlm, tmp_path: Path, note: bytes
):
    broken_off(nlm, tmp_path)
    (tmp_path / f"{SECOND}.partial.json").write_bytes(note)
    run(nlm, tmp_path)
    assert tree(tmp_path) == whole(nlm)
    assert [one.start for one in nlm.data(SECOND)] == [None]


@pytest.mark.parametrize("server", ["no ranges", "no etags", "ignores If-Range", "names nothing"])
@pytest.mark.parametrize("md5", ["new", "old"])
def test_a_file_that_changed_midway_is_never_mixed(nlm: Nlm, tmp_path: Path, server: str, md5: str):
    """The new version has the size of the old one; the ``.md5`` may change sooner or later."""
    name = Path(SECOND).name
    old, new = content_of(name), content_of(name, 1)
    assert len(old) == len(new)
    broken_off(nlm, tmp_path)
    nlm.ranges = server != "no ranges"
    nlm.etags = server not in ("no etags", "names nothing")
    nlm.heeds_if_range = server not in ("ignores If-Range", "names nothing")
    day = OLD if server == "names nothing" else datetime(2026, 2, 1, tzinfo=UTC)
    nlm.publish(name, new, day=day)
    if md5 == "old":
        # What the first request for it gets is from before NLM replaced it.
        nlm.md5s[SECOND] = hashlib.md5(old).hexdigest()  # noqa: S324
        nlm.fault(f"{SECOND}.md5", Fault("none", then=lambda: nlm.publish(name, new, day=day)))
    run(nlm, tmp_path)
    assert tree(tmp_path) == whole(nlm)
    assert (tmp_path / SECOND).read_bytes() == new


@pytest.mark.parametrize("at", [0, 1, 10_000, 39_999])
def test_a_file_that_changes_while_it_is_sent(nlm: Nlm, tmp_path: Path, at: int):
    name = Path(FOURTH).name
    day = datetime(2026, 2, 1, tzinfo=UTC)
    then = partial(nlm.publish, name, content_of(name, 1), day=day)
    nlm.fault(FOURTH, Fault("replace", at, then=then))
    run(nlm, tmp_path)
    assert tree(tmp_path) == whole(nlm)


def test_a_server_that_lies_about_an_md5(nlm: Nlm, tmp_path: Path):
    nlm.publish(Path(THIRD).name, content_of(THIRD), md5="0" * 32)
    with pytest.raises(IncompleteMirrorError, match=f"1 failed.*{THIRD}") as caught:
        run(nlm, tmp_path)
    report = caught.value.report
    assert report.new == (FIRST, SECOND, FOURTH)
    assert list(report.failed) == [THIRD]
    assert "NLM's is 00000000" in str(report.failed[THIRD])
    # Fetched twice, for it might have been the network; then nothing of it stays.
    assert [one.status for one in nlm.data(THIRD)] == [200, 200]
    assert not list(tmp_path.rglob("*n0003*"))
    nlm.publish(Path(THIRD).name, content_of(THIRD))
    assert run(nlm, tmp_path).new == (THIRD,)
    assert tree(tmp_path) == whole(nlm)


def test_a_file_without_an_md5_is_not_fetched(nlm: Nlm, tmp_path: Path):
    nlm.fault(f"{THIRD}.md5", Fault("404"))
    nlm.fault(f"{SECOND}.md5", Fault("none"))
    with pytest.raises(IncompleteMirrorError) as caught:
        run(nlm, tmp_path)
    assert list(caught.value.report.failed) == [THIRD]
    assert f"{THIRD}.md5: cannot be fetched (the server answers 404" in str(
        caught.value.report.failed[THIRD]
    )
    assert nlm.data(THIRD) == []
    run(nlm, tmp_path)
    assert tree(tmp_path) == whole(nlm)


def test_what_stays_broken_is_given_up_and_the_others_are_kept(nlm: Nlm, tmp_path: Path):
    # It always ends at the same byte: no progress, however often.
    nlm.ranges = False
    nlm.fault(SECOND, Fault("truncate", 10_000, times=99))
    with pytest.raises(IncompleteMirrorError) as caught:
        run(nlm, tmp_path)
    assert "in 6 attempts (the connection ended after 10,000 of" in str(
        caught.value.report.failed[SECOND]
    )
    assert caught.value.report.new == (FIRST, THIRD, FOURTH)


def test_progress_makes_up_for_failures(nlm: Nlm, tmp_path: Path):
    name = "pubmed26n0005.xml.gz"
    nlm.publish(name, content_of(name, size=5 << 20))
    nlm.fault(f"updatefiles/{name}", Fault("truncate", 1_200_000, times=4))
    run(nlm, tmp_path, Manners(attempts=2, pause=0.01, requests_a_second=10_000), latest=1)
    assert (tmp_path / "updatefiles" / name).read_bytes() == nlm.files[f"updatefiles/{name}"]


def test_a_server_that_is_gone_is_not_asked_for_every_file(nlm: Nlm, tmp_path: Path):
    for number in range(5, 60):
        name = f"pubmed26n{number:04}.xml.gz"
        nlm.publish(name, content_of(name, size=100))
    for path in nlm.files:
        nlm.fault(f"{path}.md5", Fault("503", times=99))
    manners = Manners(workers=2, attempts=2, pause=0.01, requests_a_second=10_000)
    with pytest.raises(IncompleteMirrorError, match=r"4 failed .*55 not tried") as caught:
        run(nlm, tmp_path, manners)
    assert len(caught.value.report.failed) == 4
    assert len(nlm.asked) < 20


def test_republished_bytes_are_noticed_replaced_and_reported(nlm: Nlm, tmp_path: Path):
    run(nlm, tmp_path)
    name = Path(SECOND).name
    day = datetime(2026, 2, 1, tzinfo=UTC)
    before = tree(tmp_path)
    nlm.publish(name, content_of(name, 1), day=day, md5="f" * 32)
    with pytest.raises(IncompleteMirrorError):
        run(nlm, tmp_path)
    # What cannot be verified replaces nothing.
    assert tree(tmp_path) == before
    nlm.publish(name, content_of(name, 1), day=day)
    done = run(nlm, tmp_path)
    assert (done.republished, done.damaged, done.new, done.kept) == ((SECOND,), (), (), 3)
    assert tree(tmp_path) == whole(nlm)


def test_damage_here_is_noticed_and_repaired(nlm: Nlm, tmp_path: Path):
    run(nlm, tmp_path)
    (tmp_path / FIRST).write_bytes(b"half")
    (tmp_path / f"{THIRD}.md5").unlink()
    (tmp_path / f"{FOURTH}.md5").unlink()
    (tmp_path / FOURTH).unlink()
    done = run(nlm, tmp_path)
    assert (done.damaged, done.new, done.kept) == ((FIRST,), (FOURTH,), 2)
    assert tree(tmp_path) == whole(nlm)
    # A bit that fell over on the disk changes neither size nor time; --verify reads.
    status = (tmp_path / SECOND).stat()
    flipped = bytearray((tmp_path / SECOND).read_bytes())
    flipped[100] ^= 1
    (tmp_path / SECOND).write_bytes(flipped)
    os.utime(tmp_path / SECOND, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert run(nlm, tmp_path).kept == 4
    assert run(nlm, tmp_path, verify=True).damaged == (SECOND,)
    assert tree(tmp_path) == whole(nlm)


def test_a_kill_between_a_file_and_its_md5_is_put_right(nlm: Nlm, tmp_path: Path):
    run(nlm, tmp_path)
    name = Path(SECOND).name
    nlm.publish(name, content_of(name, 1), day=datetime(2026, 2, 1, tzinfo=UTC))
    (tmp_path / SECOND).write_bytes(content_of(name, 1))
    with pytest.raises(ModernPubMedError, match="but pubmed26n0002"):
        verify_md5(tmp_path / SECOND)
    nlm.asked.clear()
    assert run(nlm, tmp_path).kept == 4
    assert tree(tmp_path) == whole(nlm)
    assert nlm.data(SECOND) == []


def test_what_vanished_is_named_and_stays(nlm: Nlm, tmp_path: Path):
    run(nlm, tmp_path)
    before = tree(tmp_path)
    for path in (FIRST, SECOND):
        del nlm.files[path], nlm.md5s[path]
    done = run(nlm, tmp_path)
    assert (done.vanished, done.kept) == ((FIRST, SECOND), 2)
    assert run(nlm, tmp_path, only="updates", latest=1).vanished == ()
    assert tree(tmp_path) == before


def test_only_and_latest(nlm: Nlm, tmp_path: Path):
    nlm.publish("pubmed25n0009.xml.gz", b"last year's")
    assert run(nlm, tmp_path, only="updates", latest=2).new == (THIRD, FOURTH)
    assert run(nlm, tmp_path, latest=3).new == (SECOND,)
    assert run(nlm, tmp_path, only="baseline").new == (FIRST,)
    assert run(nlm, tmp_path, latest=99).new == ("updatefiles/pubmed25n0009.xml.gz",)
    for options in ({"latest": 0}, {"only": "all"}, {"manners": Manners(workers=0)}):
        with pytest.raises(ModernPubMedError, match="give"):
            run(nlm, tmp_path, **options)


def test_a_dry_run_says_and_changes_nothing(nlm: Nlm, tmp_path: Path):
    done = run(nlm, tmp_path / "m", dry_run=True)
    assert done.new == (FIRST, SECOND, THIRD, FOURTH)
    assert {round(size / 1024) for size in done.sizes.values()} == {39}
    assert not (tmp_path / "m").exists()
    run(nlm, tmp_path / "m")
    name = Path(SECOND).name
    nlm.publish(name, content_of(name, 1), day=datetime(2026, 2, 1, tzinfo=UTC))
    (tmp_path / "m" / THIRD).write_bytes(b"")
    before = tree(tmp_path)
    done = run(nlm, tmp_path / "m", dry_run=True)
    assert (done.republished, done.damaged, done.kept) == ((SECOND,), (THIRD,), 2)
    assert tree(tmp_path) == before


def test_one_mirror_at_a_time(nlm: Nlm, tmp_path: Path):
    refused: list[str] = []

    def second() -> None:
        try:
            run(nlm, tmp_path)
        except ModernPubMedError as error:
            refused.append(str(error))

    nlm.fault(SECOND, Fault("replace", 10_000, then=second))
    run(nlm, tmp_path)
    assert refused == [
        f"{tmp_path}: another run is at work in this mirror. Remedy: wait until it has ended."
    ]
    assert tree(tmp_path) == whole(nlm)


def test_a_full_disk_ends_it_by_name(nlm: Nlm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(transfer.os, "fsync", full)
    with pytest.raises(ModernPubMedError, match=r"n000\d.xml.gz.partial: No space left") as caught:
        run(nlm, tmp_path)
    assert not isinstance(caught.value, IncompleteMirrorError)
    monkeypatch.undo()
    run(nlm, tmp_path)
    assert tree(tmp_path) == whole(nlm)


def test_what_cannot_fit_is_refused_before(
    nlm: Nlm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=100_000))
    with pytest.raises(ModernPubMedError, match=r"0\.0 GB are free"):
        run(nlm, tmp_path)
    assert all(one.path.endswith("/") for one in nlm.asked)
    assert len(run(nlm, tmp_path, latest=2).new) == 2


def test_addresses_that_are_none(nlm: Nlm, tmp_path: Path):
    for base, cause in {
        "ftp://127.0.0.1/pubmed/": "is no address of HTTP",
        "file:///etc/": "is no address of HTTP",
        f"{nlm.base}nothing": "404",
        "http://127.0.0.1:port/": "nonnumeric port",
        "http://127.0.0.1:9/": "cannot be fetched in 6 attempts",
    }.items():
        with pytest.raises(ModernPubMedError, match=cause):
            mirror(tmp_path, base=base, manners=HASTY)
    for path in list(nlm.files):
        del nlm.files[path]
    with pytest.raises(ModernPubMedError, match="lists none of NLM's files"):
        run(nlm, tmp_path)


def test_https_stays_https(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    elsewhere = SimpleNamespace(url="http://mirror.example/", close=lambda: None)
    monkeypatch.setattr("urllib.request.urlopen", lambda *_, **__: elsewhere)
    with pytest.raises(ModernPubMedError, match=r"leads to http://mirror\.example/"):
        mirror(tmp_path, base="https://nlm.example/", manners=HASTY)
    asked = []

    def forged(*of: object, **_: object) -> None:
        asked.append(of)
        raise urllib.error.URLError(ssl.SSLCertVerificationError(1, "self-signed certificate"))

    monkeypatch.setattr("urllib.request.urlopen", forged)
    with pytest.raises(ModernPubMedError, match="not the server it claims to be"):
        mirror(tmp_path, base="https://nlm.example/", manners=HASTY)
    assert len(asked) == 1


def test_what_a_kill_leaves_is_used_up(nlm: Nlm, tmp_path: Path):
    run(nlm, tmp_path)
    (tmp_path / f"{FIRST}.md5").rename(tmp_path / f"{FIRST}.md5.partial")
    (tmp_path / ".mirror.json").rename(tmp_path / ".mirror.json.partial")
    (tmp_path / f"{SECOND}.partial").write_bytes(b"of a version that is here by now")
    assert run(nlm, tmp_path).kept == 4
    assert tree(tmp_path) == whole(nlm)
    assert not list(tmp_path.rglob("*.partial*"))


def started(server: Nlm, folder: Path, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "modernpubmed", "mirror", str(folder), "--base", server.base]
    return subprocess.Popen(
        [*command, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def until(true: Callable[[], bool]) -> None:
    for _ in range(5000):
        if true():
            return
        time.sleep(0.02)
    pytest.fail("never so")


def test_ctrl_c_leaves_what_can_be_gone_on_with(nlm: Nlm, tmp_path: Path):
    nlm.fault(SECOND, Fault("stall", 10_000))
    process = started(nlm, tmp_path)
    part = tmp_path / f"{SECOND}.partial"
    until(lambda: part.exists() and part.stat().st_size == 10_000)
    until(lambda: (tmp_path / f"{FOURTH}.md5").exists())
    process.send_signal(signal.SIGINT)
    start = time.monotonic()
    _, errors = process.communicate(timeout=20)
    assert time.monotonic() - start < 15
    assert (process.returncode, errors) == (
        130,
        "modernpubmed: stopped; the same command goes on from here\n",
    )
    left = {path.name for path in tmp_path.rglob("*n0002*")}
    assert left == {part.name, f"{part.name}.json"}
    nlm.asked.clear()
    assert run(nlm, tmp_path).kept == 3
    assert tree(tmp_path) == whole(nlm)
    assert [one.start for one in nlm.data(SECOND)] == [10_000]
    assert len(nlm.asked) == 4


def test_the_command_line(nlm: Nlm, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    def command(*options: str) -> tuple[int, list[str], list[str]]:
        status = main(["mirror", str(tmp_path), "--base", nlm.base, *options])
        captured = capsys.readouterr()
        return status, captured.out.splitlines(), captured.err.splitlines()

    assert command("--dry-run", "--only", "updates") == (
        0,
        [
            f"{THIRD}  0.0 MB",
            f"{FOURTH}  0.0 MB",
            f"{tmp_path}: 2 new, 0.1 MB to fetch, 0 kept",
        ],
        [],
    )
    nlm.fault(f"{THIRD}.md5", Fault("404"))
    nlm.fault(f"{SECOND}.md5", Fault("404"))
    status, out, errors = command("--workers", "1")
    assert (status, out) == (2, [f"{tmp_path}: 2 new, 0.1 MB fetched, 0 kept"])
    assert [line.split(": ")[1][-30:] for line in errors[:2]] == [
        f"{SECOND}.md5"[-30:],
        f"{THIRD}.md5"[-30:],
    ]
    assert errors[2:] == [
        f"modernpubmed: {tmp_path}: 2 failed ({SECOND}, {THIRD}); what is here is "
        "verified. Remedy: run it again: it goes on where it was."
    ]
    name = Path(FIRST).name
    nlm.publish(name, content_of(name, 1), day=datetime(2026, 2, 1, tzinfo=UTC))
    del nlm.files[FOURTH]
    assert command() == (
        0,
        [
            f"{tmp_path}: 2 new, 1 republished by NLM, 0.1 MB fetched, 0 kept",
            f"republished by NLM: {FIRST}",
            f"no longer on the server, still here: {FOURTH}",
        ],
        [],
    )


def over(process: subprocess.Popen[bytes], server: Nlm, enough: int) -> bool:
    """Whether a process has asked so often, or has ended."""
    return len(server.asked) > enough or process.poll() is not None


def chaos(server: Nlm, folder: Path, rng: random.Random, files: int, kills: int) -> int:
    """A mirror under random faults, replaced files and kills; returns how often it was started."""
    for number in range(5, files + 1):
        name = f"pubmed26n{number:04}.xml.gz"
        server.publish(name, content_of(name, size=rng.choice([1_000, 50_000, 300_000])))
    valid = {path: {content} for path, content in server.files.items()}
    for path in server.files:
        faults = []
        for _ in range(rng.randrange(4)):
            kind = rng.choice(["truncate", "reset", "503", "garbage", "replace", "unsized"])
            at = rng.randrange(len(server.files[path]))

            def change(path: str = path, version: int = rng.randrange(1, 1 << 30)) -> None:
                content = content_of(path, version, size=rng.choice([50_000, 60_000]))
                valid[path].add(content)
                server.publish(Path(path).name, content, day=OLD + timedelta(days=version % 99))

            faults.append(Fault(kind, at, then=change if kind == "replace" else lambda: None))
        server.fault(path, *faults)
        if not rng.randrange(4):
            server.fault(f"{path}.md5", Fault("truncate", 7), Fault("503"))
    starts = 0
    while True:
        starts += 1
        assert starts < kills + 20
        process = subprocess.Popen(
            [sys.executable, "-c", RUN, str(folder), server.base],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        if starts <= kills:
            enough = len(server.asked) + rng.randrange(2, 20)
            until(partial(over, process, server, enough))
            time.sleep(rng.uniform(0, 0.02))
            process.kill()
        status = process.wait()
        for path in server.files:
            # Whatever has its name is whole, and of one version.
            if (folder / path).exists():
                assert (folder / path).read_bytes() in valid[path]
        if status == 0:
            break
    # A file replaced behind its row in the index: the last word is a run in peace.
    server.faults.clear()
    run(server, folder)
    assert tree(folder) == whole(server)
    memory = json.loads((folder / ".mirror.json").read_text())["files"]
    assert {name: one["md5"] for name, one in memory.items()} == server.md5s
    return starts


RUN = """
import sys
from pathlib import Path
from modernpubmed.pubmed.mirror import mirror
from modernpubmed.pubmed.transfer import Manners
manners = Manners(requests_a_second=200, pause=0.01, silence=2)
mirror(Path(sys.argv[1]), base=sys.argv[2], manners=manners)
"""


def test_killed_at_random_among_faults_it_ends_right(nlm: Nlm, tmp_path: Path):
    assert chaos(nlm, tmp_path, random.Random(7), files=12, kills=4) > 2


@pytest.mark.long
@pytest.mark.parametrize("seed", range(5))
def test_killed_at_random_among_faults_it_ends_right_often(nlm: Nlm, tmp_path: Path, seed: int):
    assert chaos(nlm, tmp_path, random.Random(seed), files=60, kills=15) > 10
