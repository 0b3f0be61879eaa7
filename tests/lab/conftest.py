"""Fixtures of the lab's tests."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


def _load(name: str) -> Any:
    """A module of this folder: with importmode=importlib the folder is not on sys.path."""
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return sys.modules[name]


_load("mirror")


@pytest.fixture
def mirror() -> Iterator[Any]:
    """A Debian mirror on loopback (tests/lab/mirror.py)."""
    with _load("mirror").Mirror() as running:
        yield running
