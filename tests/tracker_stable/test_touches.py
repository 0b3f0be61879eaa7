"""What a patch touches: the user interface with a verdict, and what packagers and labs look at."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from db.database import Database
from tracker.touches import Touches, touches
from xdnawatch.cli import app as root

UAPI = "include/uapi/drm/amdxdna_accel.h"


def diff(path: str, *hunks: tuple[str, str]) -> str:
    """A diff of one file: (heading, lines with their signs) for each hunk."""
    text = f"diff --git a/{path} b/{path}\n--- a/{path}\n+++ b/{path}\n"
    for heading, lines in hunks:
        body = [line for line in lines.split("\n") if line]
        old, new = (sum(line[0] in signs for line in body) for signs in (" -", " +"))
        text += f"@@ -1,{old} +1,{new} @@ {heading}\n" + "\n".join(body) + "\n"
    return text


def verdicts(found: Touches) -> dict[str, tuple[str, str]]:
    """name -> (what, verdict)."""
    return {one.name: (one.what, one.verdict) for one in found.uapi}


@pytest.mark.parametrize(
    ("lines", "verdict"),
    [
        (" \t__u32 a;\n+\t__u32 b;\n };", "compatible"),  # grows at its end
        ("+\t__u32 b;\n \t__u32 a;\n };", "breaking"),  # offsets change
        (" \t__u32 a;\n+\t__u32 b;\n \t__u64 c;", "breaking"),
        (" \t__u32 a;\n+\t__u32 b;", "check"),  # its end is not shown
        (" \t__u32 a;\n-\t__u32 pad;\n+\t__u32 flags;\n };", "compatible"),  # reserved space is used
        (" \t__u32 a;\n-\t__u8 pad[3];\n+\t__u8 flag;\n+\t__u8 pad[2];\n };", "compatible"),
        (" \t__u32 a;\n-\t__u32 pad;\n+\t__u64 flags;\n };", "breaking"),
        ("-\t__u32 a;\n+\t__u32 z;\n };", "check"),  # renamed
        ("-\t__u32 a;\n+\t__s32 a;\n };", "check"),  # same size
        ("-\t__u32 a;\n+\t__u64 a;\n };", "breaking"),
        ("-\t__u32 a;\n \t__u32 b;\n };", "breaking"),
        (" \t__u32 a; /* one */\n-\t__u32 b; /* two */\n+\t__u32 b; /* three */\n };", "none"),
        ("-\t__u64 h[] __counted_by(n);\n+\t__u64 h[];\n };", "none"),
        (" \t/**\n-\t * @a: old words;\n+\t * @a: new words;\n \t */\n \t__u32 a;\n };", "none"),
        ("+\tstruct {\n+\t\t__u32 b;\n+\t} x;\n };", "compatible"),
    ],
)
def test_structs(lines: str, verdict: str) -> None:
    for text in (
        diff(UAPI, ("struct amdxdna_x {", lines)),
        diff(UAPI, ("", " struct amdxdna_x {\n" + lines)),
    ):
        assert touches(text).verdict == verdict


@pytest.mark.parametrize(
    ("lines", "verdict"),
    [
        (" \tDRM_A,\n+\tDRM_B,\n };", "compatible"),
        (" \tDRM_A,\n+\tDRM_B,\n \tDRM_C,\n };", "breaking"),
        (" \tDRM_A,\n+\tDRM_B,\n \tDRM_LAST,\n };", "compatible"),  # a counter moves with the list
        (" \tDRM_A = 1,\n+\tDRM_B = 7,\n \tDRM_C = 2,\n };", "compatible"),
        ("-\tDRM_A = 1,\n+\tDRM_A = 2,\n };", "breaking"),
        ("-\tDRM_A,\n \tDRM_B,\n };", "breaking"),
        ("-\tDRM_A,\n \tDRM_B,\n+\tDRM_A,\n };", "breaking"),  # order
    ],
)
def test_enums(lines: str, verdict: str) -> None:
    assert touches(diff(UAPI, ("enum amdxdna_id {", lines))).verdict == verdict


def test_a_new_ioctl_with_its_struct() -> None:
    found = touches(
        diff(
            UAPI,
            ("enum amdxdna_drm_ioctl_id {", " \tDRM_AMDXDNA_GET_ARRAY = 10,\n+\tDRM_AMDXDNA_NEW,\n };"),
            (
                "struct amdxdna_drm_old {",
                " };\n+struct amdxdna_drm_new {\n+\t__u32 handle;\n+};\n"
                "+#define DRM_IOCTL_AMDXDNA_NEW \\\n+\tDRM_IOWR(DRM_COMMAND_BASE + DRM_AMDXDNA_NEW, \\\n"
                "+\t\t struct amdxdna_drm_new)",
            ),
        )
    )
    assert verdicts(found) == {
        "amdxdna_drm_ioctl_id": ("changed", "compatible"),
        "amdxdna_drm_new": ("added", "compatible"),
        "DRM_IOCTL_AMDXDNA_NEW": ("added", "compatible"),
    }
    assert next(one.kind for one in found.uapi if one.name.startswith("DRM_IOCTL")) == "ioctl"
    gone = touches(diff(UAPI, ("", "-#define DRM_IOCTL_X DRM_IOW(1, int)\n-struct a {\n-\t__u32 b;\n-};")))
    assert verdicts(gone) == {"DRM_IOCTL_X": ("removed", "breaking"), "a": ("removed", "breaking")}
    number = touches(diff(UAPI, ("", "-#define DRM_X 0x1\n+#define DRM_X 0x2")))
    assert number.verdict == "breaking"


def test_what_is_only_moved_is_no_change() -> None:
    moved = ["struct a {", "\t__u32 b;", "};", "#define X 1"]
    text = diff(
        UAPI, ("", "".join(f"-{line}\n" for line in moved)), ("", "".join(f"+{line}\n" for line in moved))
    )
    assert touches(text).verdict == "none"
    assert touches(diff("drivers/accel/amdxdna/x.h", ("struct a {", "-\t__u32 b;\n };"))).verdict == "none"


def test_names_others_rely_on() -> None:
    text = diff(
        "drivers/accel/amdxdna/amdxdna_pci_drv.c",
        (
            "",
            "+module_param(force_iova, bool, 0600);\n-module_param_named(old, x, int, 0);\n"
            '+MODULE_FIRMWARE("amdnpu/17f0_11/npu_7.sbin");\n'
            "+\t{ PCI_DEVICE(PCI_VENDOR_ID_AMD, 0x17f9) },\n+\t{ 0x17f0, 0x11, &dev_npu5_info },\n"
            '-MODULE_FIRMWARE("amdnpu/a.sbin");\n+MODULE_FIRMWARE("amdnpu/a.sbin");',
        ),
    )
    text += diff(
        "drivers/accel/amdxdna/Kconfig", ("", "+config DRM_ACCEL_X\n+\tdepends on IOMMU_SVA\n+\thelp")
    )
    text += diff(
        "include/trace/events/amdxdna.h", ("", "+TRACE_EVENT(amdxdna_debug,\n+DEFINE_EVENT(cls, two,")
    )
    text += diff("Documentation/accel/amdxdna/amdnpu.rst", ("", "+words"))
    assert {(one.kind, one.name, one.what) for one in touches(text).named} == {
        ("parameter", "force_iova", "added"),
        ("parameter", "old", "removed"),
        ("firmware", "amdnpu/17f0_11/npu_7.sbin", "added"),
        ("pci-id", "PCI_VENDOR_ID_AMD 0x17f9", "added"),
        ("pci-id", "0x17f0 revision 0x11", "added"),
        ("kconfig", "DRM_ACCEL_X", "added"),
        ("kconfig", "depends on IOMMU_SVA", "added"),
        ("tracepoint", "amdxdna_debug", "added"),
        ("tracepoint", "two", "added"),
        ("documentation", "Documentation/accel/amdxdna/amdnpu.rst", "changed"),
    }


PIECES = [
    "--- a/x", f"+++ b/{UAPI}", "@@ -1,9 +1,9 @@ struct a {", "@@ -1 +1 @@", "+struct b {", "-};", "+/*",
    "+#define X \\", "-enum c {", "+\tA = 1,", "\\ No newline", "", "+\t__u32 a[3];",
]  # fmt: skip


@given(st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=12)), max_size=40))
def test_any_text_is_survived(lines: list[str]) -> None:
    found = touches("\n".join(lines))
    assert found.verdict in ("none", "compatible", "check", "breaking")
    json.dumps(found.to_json())


def test_the_command_reads_the_commit(
    kernel: Any, read: Callable[..., None], database: Database, tmp_path: Path
) -> None:
    kernel.commit("Add a header", file=UAPI)
    kernel.tag("v6.18")
    read([])
    settings = tmp_path / "xdnawatch.toml"
    settings.write_text(
        f'[database]\nurl = "sqlite:///{tmp_path / "tracker.db"}"\n'
        f'[[tree]]\nname = "mainline"\nlocation = "{kernel.folder}"\nbranch = "master"\n'
    )
    arguments = ["-c", str(settings), "track", "abi", "Add a header"]
    done = CliRunner().invoke(root, arguments, catch_exceptions=False)
    assert "user interface: none" in done.stdout
    done = CliRunner().invoke(root, [*arguments, "--json"], catch_exceptions=False)
    assert kernel.ids["Add a header"][:12] in json.loads(done.stdout)["source"]
