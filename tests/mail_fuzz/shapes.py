"""Mails of every shape the parser knows, made by this project: what the mutations start from.

All names, texts and diffs are made up. With XDNAWATCH_REAL_DATA set, `corpus` adds real mails of that
folder, which stay where they are.
"""

from __future__ import annotations

import base64
import os
import quopri
import tempfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from tracker.mail.mbox import MboxReader
from tracker.sample import load_facts, write_mails

REAL_MAILS = 400  # of each real file
LARGEST = 60_000  # bytes; larger mails cost time and show nothing new

_DIFF = """diff --git a/drivers/accel/amdxdna/{name}.c b/drivers/accel/amdxdna/{name}.c
index 0123456789ab..ba9876543210 100644
--- a/drivers/accel/amdxdna/{name}.c
+++ b/drivers/accel/amdxdna/{name}.c
@@ -1,4 +1,5 @@ static int {name}_start(struct {name} *it)
 \tint ret;
{blank}
-\tret = old_{name}(it);
+\tret = new_{name}(it);
+\tif (ret)
 \treturn ret;
"""
_MESSAGE = """From: Écrit Une <ecrit@example.org>

The {name} is started too late. Start it before the mailbox.

Fixes: 0123456789ab ("accel/amdxdna: Add the {name}")
Reported-by: Some One <some@example.org>
Closes: https://lore.kernel.org/all/20250101000000.1-1-{name}@example.org/
Cc: stable@vger.kernel.org # 6.14+
Signed-off-by: Écrit Une <ecrit@example.org>
---
v2: Link to v1: https://patch.msgid.link/20250101000000.1-1-{name}%40example.org
change-id: 20250101-{name}-0123456789ab

 drivers/accel/amdxdna/{name}.c | 3 ++-
 1 file changed, 2 insertions(+), 1 deletion(-)

"""
_SUBJECTS = (
    "[PATCH] accel/amdxdna: Start the {n}",
    "[PATCH v5.1 10/12] accel/amdxdna: Start the {n}",
    "[PATCH V1 2 / 7] accel/amdxdna: Start the {n}",
    "[RFC PATCHv3 02/05] accel/amdxdna: [media] the {n}",
    "[list-tag] [PATCH][RESEND] [v2] accel/amdxdna: Start the {n}",
    "[PATCH AUTOSEL 6.19-6.18] accel/amdxdna: Start the {n}",
    "[PATCH 6.18.y 123/614] accel/amdxdna: Start the {n}",
    '[PATCH [not] closed 1/2 Revert "accel/amdxdna: Start the {n}"',
    "=?utf-8?q?=5BPATCH_v2_3/4=5D_accel/amdxdna=3A_Gr=C3=B6=C3=9Fe?= =?utf-8?B?IGRlcw==?= {n}",
    "[list-tag] Re: [PATCH v2 0/3] the {n}",
    "Re: (subset) [PATCH 1/2] Re[2]: AW: the {n}",
)


def _diff(name: str) -> str:
    return _DIFF.format(name=name, blank=" ")


def _head(subject: str, number: int, more: str = "") -> str:
    return (
        f"From: =?utf-8?q?=C3=89crit?= Une <ecrit@example.org>\nTo: dri-devel@example.org\n"
        f"Subject: {subject}\nDate: Tue, {1 + number % 28} Feb 2025 10:11:12 +0530\n"
        f"Message-ID: <20250211101112.4711-{number}-ecrit@example.org>\n"
        f"In-Reply-To: <20250211101112.4711-0-ecrit@example.org>\n"
        f"References: <20250101000000.1-0-a@example.org>\n\t<20250211101112.4711-0-ecrit@example.org>\n"
        f"List-Id: Some list <some.list.example.org>\nMIME-Version: 1.0\n{more}"
    )


def _part(kind: str, text: str, coding: str = "8bit") -> bytes:
    data = text.encode()
    if coding == "base64":
        data = base64.encodebytes(data)
    elif coding == "quoted-printable":
        data = quopri.encodestring(data)
    return f"Content-Type: {kind}\nContent-Transfer-Encoding: {coding}\n\n".encode() + data


def _parts(kind: str, boundary: str, *parts: bytes) -> bytes:
    inside = b"".join(f"--{boundary}\n".encode() + part + b"\n" for part in parts)
    return f'Content-Type: {kind}; boundary="{boundary}"\n\n'.encode() + inside + f"--{boundary}--\n".encode()


def own_shapes() -> Iterator[bytes]:
    """One mail of each shape, by this project's own code."""
    patch = _MESSAGE.format(name="engine") + _diff("engine")
    two = patch + _diff("solver") + "-- \n2.47.1\n"
    plain = 'text/plain; charset="utf-8"'
    html = "<html><body><p>The &lt;patch&gt;</p><pre>" + patch + "</pre><table><tr><td>x</table></html>"
    for number, subject in enumerate(_SUBJECTS):
        head = _head(subject.format(n=f"engine {number}"), number).encode()
        yield head + _part(plain, two)
    head = _head("[PATCH 1/2] accel/amdxdna: Start the engine", 30).encode()
    for coding in ("base64", "quoted-printable"):
        yield head + _part(plain, patch, coding)
        yield (head + _part(plain, patch, coding)).replace(b"\n", b"\r\n")
    yield head + _part("text/html; charset=iso-8859-1", html, "quoted-printable")
    inner = _parts("multipart/alternative", "in", _part(plain, patch), _part("text/html", html, "base64"))
    yield head + _parts("multipart/mixed", "out", inner, _part("text/x-patch", two, "base64"))
    yield head + b"X-stable: review\n" + _part(plain, "commit " + "12ab" * 10 + " upstream.\n\n" + patch)
    quoted = "".join(f"{'> ' * (1 + index % 5)}{line}\n" for index, line in enumerate(two.split("\n")))
    yield _head("Re: [PATCH 1/2] the engine", 31).encode() + _part(
        plain, "On Monday A wrote:\n" + quoted + "\nReviewed-by: Écrit Une <ecrit@example.org>\n"
    )
    taken = "Applied to drm-misc-next, thanks!\n\n[1/2] accel/amdxdna: Start\n      the engine\n"
    yield _head("Re: [PATCH 0/2] the engine", 32).encode() + _part(
        plain, taken + "      commit: " + "ab12" * 10 + "\n[2/2] (no commit info)\n"
    )
    pull = "The following changes since commit " + "a1" * 20 + ":\n\n  Linux 7.1-rc2\n\nare available in:\n"
    yield _head("[GIT PULL] amdxdna fixes for v7.1-rc3", 33).encode() + _part(
        plain,
        pull + " https://example.org/x.git tags/amdxdna-fixes-2026-01-15\n\nÉcrit Une (2):\n"
        "      accel/amdxdna: Start the engine\n      accel/amdxdna: Stop it\n\n"
        " drivers/accel/amdxdna/engine.c | 3 ++-\n .../{old => new}/x.h | Bin 0 -> 12 bytes\n",
    )
    binary = 'diff --git "a/\\303\\244.bin" "b/\\303\\244.bin"\n'
    binary += "new file mode 100644\nGIT binary patch\nliteral 3\nKc$`\n\n"
    yield _head("[PATCH] firmware: \t rename", 34).encode() + _part(
        plain, binary + "diff --git a/x b/y\nsimilarity index 100%\nrename from x\nrename to y\n"
    )
    yield b"Subject: nothing else\n\n"
    yield b"no header at all\n"
    yield b""


def corpus() -> list[bytes]:
    """The project's shapes and sample mails; and real ones where they are."""
    found = list(own_shapes())
    with tempfile.TemporaryDirectory() as folder:
        sample = Path(folder) / "sample.mbox"
        write_mails(load_facts(), sample)
        found += [item.raw for item in islice(MboxReader(sample).read({}), 200)]
    real = os.environ.get("XDNAWATCH_REAL_DATA")
    for file in sorted(Path(real, "mails").glob("*.mbox*")) if real else ():
        found += [item.raw for item in islice(MboxReader(file).read({}), REAL_MAILS)]
    return [raw for raw in found if len(raw) <= LARGEST]
