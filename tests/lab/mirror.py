"""A Debian mirror on loopback with packages made here, that can be told to misbehave."""

from __future__ import annotations

import gzip
import hashlib
import io
import lzma
import tarfile
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType

import zstandard


def tar_of(entries: list[tarfile.TarInfo], contents: dict[str, bytes]) -> bytes:
    """A tar archive; regular entries take their bytes from ``contents``."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for entry in entries:
            data = contents.get(entry.name, b"")
            entry.size = len(data) if entry.isfile() else 0
            tar.addfile(entry, io.BytesIO(data))
    return out.getvalue()


def file_entry(name: str, mode: int = 0o644) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.mode = mode
    return entry


def link_entry(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type = kind
    entry.linkname = target
    return entry


COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "": lambda data: data,
    ".gz": gzip.compress,
    ".xz": lzma.compress,
    ".zst": lambda data: zstandard.ZstdCompressor().compress(data),
}


def deb_of(data_tar: bytes, *, name: str = "p", version: str = "1", compression: str = ".xz") -> bytes:
    """A .deb around a data.tar."""
    control = f"Package: {name}\nVersion: {version}\nArchitecture: amd64\n".encode()
    parts = {
        "debian-binary": b"2.0\n",
        "control.tar.xz": lzma.compress(tar_of([file_entry("./control")], {"./control": control})),
        f"data.tar{compression}": COMPRESS[compression](data_tar),
    }
    out = bytearray(b"!<arch>\n")
    for member, content in parts.items():
        out += f"{member:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(content):<10}`\n".encode() + content
        out += b"\n" * (len(content) % 2)
    return bytes(out)


def simple_deb(files: dict[str, bytes], *, name: str = "p", version: str = "1") -> bytes:
    contents = {f"./{path}": content for path, content in files.items()}
    return deb_of(tar_of([file_entry(path) for path in contents], contents), name=name, version=version)


class _QuietServer(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """A client that left early is part of the tests."""


class Mirror:
    """``files``: path below /debian/ -> bytes; ``cut``: path -> bytes after which its next answer breaks."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.cut: dict[str, int] = {}
        self.requests: list[tuple[str, str | None]] = []
        self.ranges = True
        self._index: dict[str, list[str]] = {}
        mirror = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                mirror.answer(self)

            def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
                pass

            def log_error(self, *words: object) -> None:
                pass

        self._server = _QuietServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}/debian"

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        path = request.path.removeprefix("/debian/")
        wanted = request.headers.get("Range")
        self.requests.append((path, wanted))
        content = self.files.get(path)
        if content is None:
            request.send_error(404)
            return
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.ranges else 0
        if start >= len(content) > 0:
            request.send_error(416)
            return
        body = content[start:]
        request.send_response(206 if start else 200)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        cut = self.cut.pop(path, None)
        request.wfile.write(body[:cut])
        if cut is not None:
            request.close_connection = True

    def add(
        self,
        suite: str,
        name: str,
        deb: bytes,
        *,
        version: str = "1",
        depends: str = "",
        provides: str = "",
        listed: bool = True,
        folder: str = "pool/main/x",
    ) -> str:
        """Put a package into the pool, and into a suite's index when ``listed``."""
        path = f"{folder}/{name}_{version}_amd64.deb"
        self.files[path] = deb
        if listed:
            lines = [f"Package: {name}", f"Version: {version}", "Description: text", " Depends: not-a-field"]
            lines += [f"Depends: {depends}"] if depends else []
            lines += [f"Provides: {provides}"] if provides else []
            lines += [f"Filename: {path}", f"Size: {len(deb)}", f"SHA256: {hashlib.sha256(deb).hexdigest()}"]
            self._index.setdefault(suite, []).append("\n".join(lines))
        self.publish(suite)
        return path

    def publish(self, suite: str) -> None:
        packages = lzma.compress("\n\n".join(self._index.get(suite, [])).encode() + b"\n")
        release = f"Suite: {suite}\nSHA256:\n {hashlib.sha256(packages).hexdigest()} {len(packages)} "
        self.files[f"dists/{suite}/main/binary-amd64/Packages.xz"] = packages
        self.files[f"dists/{suite}/InRelease"] = (release + "main/binary-amd64/Packages.xz\n").encode()

    def fetched(self, path: str) -> list[str | None]:
        """The Range headers of the requests for one path."""
        return [wanted for asked, wanted in self.requests if asked == path]

    def __enter__(self) -> Mirror:
        self._thread.start()
        return self

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
