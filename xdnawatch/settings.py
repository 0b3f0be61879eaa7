"""xdnawatch.toml: every room's section in one model that refuses unknown keys."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any

import platformdirs
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from harness.settings import NightlySettings, RunSettings
from lab.settings import MachineSettings
from tracker.settings import DriverProfile, SourceSettings, TreeSettings
from xdnawatch.errors import SettingsError

FILE_NAME = "xdnawatch.toml"


def _default_data() -> Path:
    return Path(os.environ.get("XDNAWATCH_DATA") or platformdirs.user_data_path("xdnawatch"))


def _default_cache() -> Path:
    return Path(os.environ.get("XDNAWATCH_CACHE") or platformdirs.user_cache_path("xdnawatch"))


class PathSettings(BaseModel):
    """``[paths]``: where things are kept. Relative paths are relative to the settings file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    data: Path = Field(default_factory=_default_data)  # runs, clones, the default database
    cache: Path = Field(default_factory=_default_cache)  # downloads; may be deleted
    site: Path | None = None  # where `publish` writes; default <data>/site


class DatabaseSettings(BaseModel):
    """``[database]``: any SQLAlchemy URL; SQLite in the data folder by default."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str | None = None


class DebianSettings(BaseModel):
    """``[debian]``: where stock kernels and the guest's packages come from."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    mirror: str | None = None  # default: the mirror of the machine's own apt configuration


class Settings(BaseModel):
    """The whole file. An unknown key is an error: a typo must not pass as a default."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    paths: PathSettings = Field(default_factory=PathSettings)
    database: DatabaseSettings = Field(default_factory=DatabaseSettings)
    debian: DebianSettings = Field(default_factory=DebianSettings)
    driver: DriverProfile = Field(default_factory=DriverProfile)
    source: tuple[SourceSettings, ...] = ()
    tree: tuple[TreeSettings, ...] = ()
    machine: tuple[MachineSettings, ...] = ()
    run: RunSettings = Field(default_factory=RunSettings)
    nightly: NightlySettings = Field(default_factory=NightlySettings)

    @model_validator(mode="after")
    def _names_are_unique(self) -> Settings:
        for section in ("source", "tree", "machine"):
            names = [entry.name for entry in getattr(self, section)]
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise ValueError(f"[[{section}]] has the name {twice[0]!r} twice")
        return self

    @property
    def database_url(self) -> str:
        """The SQLAlchemy URL to open."""
        return self.database.url or f"sqlite:///{self.paths.data / 'xdnawatch.db'}"

    @property
    def site(self) -> Path:
        """The folder `publish` writes to."""
        return self.paths.site or self.paths.data / "site"


def find_settings_file() -> Path | None:
    """./xdnawatch.toml, else the one in the user's configuration folder, else None."""
    for folder in (Path.cwd(), platformdirs.user_config_path("xdnawatch")):
        if (folder / FILE_NAME).is_file():
            return folder / FILE_NAME
    return None


def load_settings(file: Path | None, *, database_url: str | None = None) -> Settings:
    """Read the settings; without a file every default holds.

    Raises SettingsError naming file, key and mend: missing file, bad TOML, unknown key, bad value.
    """
    found = file or find_settings_file()
    raw: dict[str, Any] = {}
    if found is not None:
        try:
            raw = tomllib.loads(found.read_text("utf-8"))
        except FileNotFoundError as error:
            raise SettingsError(f"there is no settings file {found}") from error
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(f"cannot read the settings file {found}: {error}") from error
        except tomllib.TOMLDecodeError as error:
            raise SettingsError(f"{found} is not valid TOML: {error}") from error
        raw = _anchored(raw, found.resolve().parent)
    if database_url is not None:
        raw = {**raw, "database": {"url": database_url}}
    try:
        return Settings.model_validate(raw)
    except ValidationError as error:
        raise SettingsError(_first_problem(error, found)) from error


def _anchored(raw: dict[str, Any], base: Path) -> dict[str, Any]:
    """Paths of [paths] and of local sources and trees, taken relative to the settings file's folder."""
    anchored = dict(raw)
    if isinstance(raw.get("paths"), dict):
        anchored["paths"] = {
            key: str(base / Path(value).expanduser()) if isinstance(value, str) else value
            for key, value in raw["paths"].items()
        }
    for section in ("source", "tree"):
        entries = raw.get(section)
        if isinstance(entries, list):
            anchored[section] = [
                {**entry, "location": _local_path(entry["location"], base)}
                if isinstance(entry, dict) and isinstance(entry.get("location"), str)
                else entry
                for entry in entries
            ]
    return anchored


def _local_path(location: str, base: Path) -> str:
    if "://" in location or (":" in location.split("/")[0]):  # a URL, or scp-like host:path
        return location
    return str(base / Path(location).expanduser())


def _first_problem(error: ValidationError, file: Path | None) -> str:
    problem = error.errors()[0]
    where = ".".join(str(part) for part in problem["loc"])
    name = file.name if file is not None else "the settings"
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    if problem["type"] == "extra_forbidden":
        return f"{name}: unknown key {where!r}{more}; check its spelling against docs/settings.md"
    return f"{name}: {where + ': ' if where else ''}{problem['msg']}{more}"
