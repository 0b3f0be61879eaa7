"""Servers on loopback for these tests: Debian's public-inbox, a wire that counts, and plain doubles."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from sqlalchemy import MetaData, select

from db.database import Database
from tracker.mail.polite import PoliteClient

NAME = "dri-devel"
NEWSGROUP = "org.example.dri-devel"
START_SECONDS = 20.0


def free_port() -> int:
    """A port that was free a moment ago."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    """Until something listens there."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise AssertionError(f"{process.args!r} ended: {process.returncode}")
        with closing(socket.socket()) as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError(f"{process.args!r} does not listen within {START_SECONDS} s")


class PublicInbox:
    """A real archive with its two servers. ``add`` delivers mails, as the archive's own import would."""

    def __init__(self, folder: Path, processes: ExitStack, level: str = "full") -> None:
        self.folder = folder / NAME
        self._level = level
        self._environment = {
            "PATH": f"{os.environ.get('PATH', '/usr/bin:/bin')}:/usr/sbin",
            "HOME": str(folder),
            "PI_CONFIG": str(folder / "config"),
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CONFIG_SYSTEM": os.devnull,
        }
        self._servers: list[subprocess.Popen[bytes]] = []
        http, news = free_port(), free_port()
        self.url = f"http://127.0.0.1:{http}/{NAME}"
        self.news = f"nntp://127.0.0.1:{news}/{NEWSGROUP}"
        self.port, self.news_port = http, news
        self._run("public-inbox-init", "-V2", "-L", level, "--ng", NEWSGROUP, NAME, str(self.folder),
                  self.url, "dri-devel@example.org")  # fmt: skip
        for program, address, port in (
            ("public-inbox-httpd", f"http://127.0.0.1:{http}", http),
            ("public-inbox-nntpd", f"nntp://127.0.0.1:{news}", news),
        ):
            process = subprocess.Popen(
                [program, "-W0", "-l", address],
                env=self._environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            processes.callback(stop, process)
            wait_for(port, process)
            self._servers.append(process)

    def add(self, mails: Iterable[bytes], epoch: int = 0) -> None:
        """Deliver mails into an epoch and index them."""
        git_dir = self.folder / "git" / f"{epoch}.git"
        if not git_dir.exists():
            self._run("git", "init", "--quiet", "--bare", "--initial-branch=master", str(git_dir))
            alternates = self.folder / "all.git" / "objects" / "info" / "alternates"
            alternates.write_text(alternates.read_text() + f"../../git/{epoch}.git/objects\n")
        has_head = subprocess.run(
            ["git", f"--git-dir={git_dir}", "rev-parse", "-q", "--verify", "refs/heads/master"],
            env=self._environment, capture_output=True, check=False,
        ).returncode == 0  # fmt: skip
        stream = b""
        for number, raw in enumerate(mails):
            stream += b"commit refs/heads/master\ncommitter T <t@example.org> 1700000000 +0000\ndata 1\nm\n"
            stream += b"from refs/heads/master^0\n" if has_head and number == 0 else b""
            stream += b"deleteall\nM 100644 inline m\ndata %d\n" % len(raw) + raw + b"\n"
        self._run("git", f"--git-dir={git_dir}", "fast-import", "--quiet", data=stream)
        self._run("public-inbox-index", "-L", self._level, "-j1", str(self.folder))
        for server in self._servers:
            server.send_signal(signal.SIGHUP)  # look at the archive now, not some time

    def _run(self, *command: str, data: bytes | None = None) -> None:
        done = subprocess.run(command, input=data, env=self._environment, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode("utf-8", "replace")


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a server of ours."""
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def all_rows(database: Database, *, but: tuple[str, ...] = ()) -> dict[str, list[str]]:
    """Every table's rows as text, without the columns that hold times of syncing (and those in ``but``)."""
    found = {}
    tables = MetaData()
    with database.engine.connect() as connection:
        tables.reflect(connection)
        for table in tables.sorted_tables:
            columns = [
                one for one in table.columns
                if one.name not in ("synced_at", "made_at", "cursor", *but)
            ]  # fmt: skip
            if columns:
                found[table.name] = sorted(map(repr, connection.execute(select(*columns)).all()))
    return found


def new_mail(
    subject: str, message_id: str, *, received: datetime | None = None, body: str = "text\n"
) -> bytes:
    """A mail of today, with the Received header an archive sees."""
    now = datetime.now(UTC)
    stamp = format_datetime(received or now)
    return (
        f"Received: from a.example.org by b.example.org; {stamp}\n"
        f"From: Ada Author <ada@example.org>\nSubject: {subject}\nDate: {format_datetime(now)}\n"
        f"Message-ID: <{message_id}>\nTo: dri-devel@example.org\n\n{body}"
    ).encode()


ODD_ID = "slash/and+plus%41@example.org"
ODD_MAIL = new_mail("[PATCH] accel/amdxdna: Odd", ODD_ID, body=">From here\n")


class Relay:
    """A wire that counts: a TCP relay on loopback in front of a server, optionally slow."""

    def __init__(self, port: int, *, pause: float = 0.0) -> None:
        self._target = port
        self._pause = pause
        self.connections = 0
        self.received = 0  # bytes from the server
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def reset(self) -> None:
        """Count from zero."""
        self.connections = self.received = 0

    def close(self) -> None:
        """No further connections."""
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            far = socket.create_connection(("127.0.0.1", self._target))
            threading.Thread(target=self._pump, args=(near, far, False), daemon=True).start()
            threading.Thread(target=self._pump, args=(far, near, True), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, count: bool) -> None:
        try:
            while piece := source.recv(4096):
                if count:
                    self.received += len(piece)
                    time.sleep(self._pause)
                sink.sendall(piece)
        except OSError:
            pass
        finally:
            for one in (source, sink):
                with suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
                if count:
                    one.close()


@dataclass
class Reply:
    """What a double answers. ``endless``: send ``body`` again and again; ``cut``: hang up after it."""

    body: bytes = b""
    kind: str = "text/plain"
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    endless: bool = False
    cut: bool = False


@dataclass
class Request:
    """What a double was asked."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class Double:
    """A web server of the test: ``answer`` maps a request to a Reply. It keeps what it was asked."""

    def __init__(self, answer: Callable[[Request], Reply]) -> None:
        self.answer = answer
        self.asked: list[Request] = []
        self.connections = 0
        double = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                double.connections += 1
                super().setup()

            def do_GET(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                headers = {key.lower(): value for key, value in self.headers.items()}
                request = Request(self.command, self.path, headers, body)
                double.asked.append(request)
                reply = double.answer(request)
                self.send_response(reply.status)
                if reply.kind:
                    self.send_header("Content-Type", reply.kind)
                for key, value in reply.headers.items():
                    self.send_header(key, value)
                if reply.endless or reply.cut:
                    self.send_header("Connection", "close")
                    if reply.cut:
                        self.send_header("Content-Length", str(len(reply.body) + 1000))
                    self.close_connection = True
                else:
                    self.send_header("Content-Length", str(len(reply.body)))
                self.end_headers()
                try:
                    self.wfile.write(reply.body)
                    while reply.endless:
                        self.wfile.write(reply.body)
                except OSError:
                    self.close_connection = True

            do_POST = do_GET  # noqa: N815 - the name is http.server's

            def log_message(self, *arguments: object) -> None:
                """Quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = int(self._server.server_address[1])
        self.url = f"http://127.0.0.1:{self.port}/"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        """Stop."""
        self._server.shutdown()
        self._server.server_close()


@dataclass
class Hurry:
    """Clients that write down how long they would wait instead of waiting."""

    waits: list[float] = field(default_factory=list)

    def client(self, base: str) -> PoliteClient:
        """A client for a test."""
        return PoliteClient(base, pause=0.0, sleep=self.waits.append)
