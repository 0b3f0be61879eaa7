"""Which Debian mirror this machine uses, read from its apt configuration.

Both forms of sources.list(5) are read: deb822 ``*.sources`` and one-line ``*.list``. The project itself
names no mirror. The suites that the lab needs (trixie, trixie-backports) need not be configured: a mirror of
one release carries all of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from debian import deb822

from lab.machine import LabError

#: ``bookworm``, ``trixie-backports``, ``stable-updates``; not ``bookworm-pgdg`` or ``cloud-sdk-bookworm``.
DEBIAN_SUITE = re.compile(
    r"^(bullseye|bookworm|trixie|forky|duke|sid|oldoldstable|oldstable|stable|testing|unstable|experimental)"
    r"(-updates|-proposed-updates|-backports|-backports-sloppy)?/?$"
)
#: ``deb [arch=amd64 signed-by=/x.gpg] http://mirror/debian bookworm main contrib``
ONE_LINE = re.compile(r"^deb\s+(?:\[[^\]]*\]\s+)?(?P<uri>\S+)\s+(?P<suite>\S+)\s+(?P<components>\S.*)$")


@dataclass(frozen=True)
class AptSource:
    """One URI with its suites and components as apt knows them."""

    uri: str
    suites: tuple[str, ...]
    components: tuple[str, ...]

    def is_debian(self) -> bool:
        """Whether this is an archive of Debian itself, not a third party's or the security archive."""
        return "main" in self.components and any(DEBIAN_SUITE.match(suite) for suite in self.suites)


def parse_deb822(text: str) -> Iterator[AptSource]:
    """The enabled binary sources of a ``.sources`` file."""
    for paragraph in deb822.Deb822.iter_paragraphs(text):
        fields = {str(key).lower(): str(value) for key, value in paragraph.items()}
        if fields.get("enabled", "yes").strip().lower() in ("no", "false", "off", "0"):
            continue
        if "deb" not in fields.get("types", "").split():
            continue
        for uri in fields.get("uris", "").split():
            yield AptSource(
                uri, tuple(fields.get("suites", "").split()), tuple(fields.get("components", "").split())
            )


def parse_one_line(text: str) -> Iterator[AptSource]:
    """The binary sources of a ``sources.list`` file."""
    for line in text.splitlines():
        match = ONE_LINE.match(line.split("#", 1)[0].strip())
        if match:
            yield AptSource(match["uri"], (match["suite"],), tuple(match["components"].split()))


def read_sources(apt: Path) -> list[AptSource]:
    """Every source below an apt configuration folder (``/etc/apt``), in apt's order of files."""
    found: list[AptSource] = []
    parts = apt / "sources.list.d"
    files = [apt / "sources.list", *(sorted(parts.iterdir()) if parts.is_dir() else [])]
    for file in files:
        if not file.is_file():
            continue
        text = file.read_text("utf-8", "replace")
        if file.suffix == ".sources":
            found.extend(parse_deb822(text))
        elif file.suffix == ".list":
            found.extend(parse_one_line(text))
    return found


def mirror_address(setting: str | None = None, apt: Path = Path("/etc/apt")) -> str:
    """The Debian mirror to use, without a trailing slash: the setting if given, else apt's first one.

    ``mirror+file:/list`` (as Debian's cloud images use) is followed to the first http address of the list.
    """
    if setting:
        if not setting.startswith(("http://", "https://")):
            raise LabError(f"the Debian mirror {setting!r} is not an http(s) address; correct the setting")
        return setting.rstrip("/")
    for source in read_sources(apt):
        if not source.is_debian():
            continue
        uri = source.uri
        if uri.startswith("mirror+file:"):
            uri = _first_of_list(Path("/" + uri.removeprefix("mirror+file:").lstrip("/")))
        if uri.startswith(("http://", "https://")):
            return uri.rstrip("/")
    raise LabError(
        f"no Debian mirror found in {apt} (sources.list, sources.list.d): "
        "name one as 'mirror' in section [debian] of xdnawatch.toml"
    )


def _first_of_list(file: Path) -> str:
    """The first http(s) address of an apt mirror list; empty when there is none."""
    if not file.is_file():
        return ""
    for line in file.read_text("utf-8", "replace").splitlines():
        word = line.split("#", 1)[0].split()
        if word and word[0].startswith(("http://", "https://")):
            return word[0]
    return ""
