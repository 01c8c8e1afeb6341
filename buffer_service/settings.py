"""All settings of the service: defaults here, then a YAML file, then the environment (``XBUF_<GROUP>__<FIELD>``).

A name that is not known is an error that names the nearest known one, in the file and in the environment alike.
"""

from __future__ import annotations

import difflib
import os
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from buffer_service.contract import names

ENVIRONMENT_PREFIX = "XBUF_"
_DELIMITER = "__"


class InvalidSettingsError(ValueError):
    """A setting is unknown or out of range; the message has one line for each."""


class _Group(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class ServerSettings(_Group):
    """The HTTP server and the limits on what it takes."""

    host: str = "127.0.0.1"
    """Address to listen on. Anything but loopback needs tokens."""
    port: int = Field(default=names.HTTP_PORT, ge=0, le=65535)
    """Port of the API; 0 takes a free one."""
    operations_port: int | None = Field(default=None, ge=0, le=65535)
    """Port of probes and metrics; unset, they are on the API's port."""
    body_bytes_max: int = Field(default=64 * 2**20, ge=1024)
    """Longest request body."""
    rows_max: int = Field(default=4096, ge=1)
    """Most experiences, queries, updates or draws in one request."""
    k_max: int = Field(default=1000, ge=1)
    """Most neighbours of one query."""
    payload_bytes_max: int = Field(default=2**20, ge=1024)
    """Longest experience without its vectors, encoded."""
    pending_writes_max: int = Field(default=4096, ge=1)
    """Write requests that may wait for the writer; beyond it writes get 503."""
    pending_searches_max: int = Field(default=1024, ge=1)
    """Searches that may wait; beyond it they get 503."""


class AuthSettings(_Group):
    """Who may call."""

    tokens_dir: Path | None = None
    """Folder with the files ``read``, ``write`` and ``admin``, each one bearer token; re-read when they change."""


class BufferSettings(_Group):
    """The bounded memory."""

    capacity: int = Field(default=100_000, ge=1)
    """Most live experiences; the oldest is evicted first."""
    capacity_bytes: int | None = Field(default=None, ge=2**20)
    """Most bytes of live experiences as the store keeps them, vectors included; the oldest is evicted first. Logs,
    snapshots and indexes come on top of it. Unset, only their number counts."""


class EmbeddingSettings(_Group):
    """The vector by which experiences are found."""

    dimension: int = Field(default=512, ge=1, le=65536)
    """Length of visual, text and query vectors. Fixed for the life of a store."""
    metric: Literal["cosine", "euclidean"] = "cosine"
    """Fixed for the life of a store. Scores: the cosine, or the negative Euclidean distance; higher is nearer."""
    visual_weight: float = Field(default=0.7, ge=0, le=1)
    """Share of the visual vector where both modalities are given."""
    text_weight: float = Field(default=0.3, ge=0, le=1)
    """Share of the text vector where both modalities are given."""


class IndexSettings(_Group):
    """The index and its generations."""

    type: Literal["auto", "flat", "ivf", "hnsw"] = "auto"
    """``auto`` chooses by size, churn and device: flat while a scan is quick, ivf beyond, hnsw where little changes."""
    storage: Literal["auto", "fp32", "fp16", "sq8", "pq4"] = "auto"
    """How ivf and hnsw code their rows; what they find is ranked by the exact vectors in any case. ``auto``: sq8, or in
    ivf on the CPU 4-bit codes (pq4) where the data is such that searches are quicker with them."""
    faiss_backend: Literal["auto", "gpu", "cpu"] = "auto"
    """Where FAISS searches; falls back to the CPU with a warning."""
    gpu_required: bool = False
    """Not ready, for ``/readyz``, while FAISS runs on the CPU for want of a GPU that can be used."""
    faiss_n_probes: int = Field(default=2, ge=1, le=65536)
    """Least inverted lists for a query; a build raises it until the recall floor is met, and passes over far ones."""
    effort_max: int = Field(default=1024, ge=1)
    """Most ``probes`` or ``ef`` that a request may ask for."""
    recall_share: float = Field(default=0.01, ge=0, le=1)
    """Share of live searches that are checked against a scan of all, in the background; 0 for none."""
    threads: int = Field(default=0, ge=0)
    """OpenMP threads of one FAISS call; 0 for one or two, and up to 8 cores where it compares many rows (16,384)."""
    recall_floor: float = Field(default=0.95, ge=0, le=1)
    """A build whose recall@10 on held-out queries is lower is not published."""
    delta_rows_max: int = Field(default=50_000, ge=1)
    """Rows that may wait for the next generation; beyond it appends get 429."""
    keep_generations: int = Field(default=2, ge=2)
    """Generations kept on disk; never fewer than the one served and the one before."""
    pointer_dir: Path | None = None
    """Folder of the pointer; unset, ``pointer`` in the data folder."""
    memory_bytes_max: int | None = Field(default=None, ge=1)
    """Resident memory that loading a generation must not exceed; unset, the container's limit if it has one."""


class RebuildSettings(_Group):
    """When the index is built anew, and by whom."""

    mode: Literal["subprocess", "external", "off"] = "subprocess"
    """``external``: somebody else (the operator) starts rebuilds and moves the pointer."""
    every_operations: int = Field(default=1000, ge=1)
    """Appends, evictions and removals since the watermark after which the index is rebuilt."""
    threads: int = Field(default=1, ge=1)
    """OpenMP threads of a build; beside a service on two cores one leaves the other to the searches."""
    tombstone_share: float = Field(default=0.2, gt=0, le=1)
    """Share of an index's rows that have left after which it is rebuilt, where there are at least 1,000 of them."""
    after_s: float | None = Field(default=None, gt=0)
    """Age of an index after which it is rebuilt if anything has changed; unset, age is no reason."""
    min_interval_s: float = Field(default=1.0, ge=0)
    """Shortest time between the starts of two rebuilds; doubled for each failure in a row."""


class PersistenceSettings(_Group):
    """The durable store."""

    backend: Literal["file", "lmdb"] = "file"
    """A segmented log, or LMDB. Fixed for the life of a store."""
    map_size_bytes: int = Field(default=16 * 2**30, ge=2**20)
    """Largest size of an LMDB store (address space, not disk)."""


class SamplingSettings(_Group):
    """Priorities and prioritised replay; see ``core.priority`` for the formula."""

    confidence_weight: float = Field(default=0.4, ge=0)
    """Weight of 1 − confidence in a new experience's priority."""
    reward_weight: float = Field(default=0.4, ge=0)
    """Weight of the absolute total reward, at most 1, in a new experience's priority."""
    age_weight: float = Field(default=0.2, ge=0)
    """Weight of the age term, which moves from 0 to 1 (or back) with time."""
    age_half_life_s: float = Field(default=86_400.0, gt=0)
    """Time after which the age term has gone half its way."""
    age_mode: Literal["rising", "fresh"] = "rising"
    """``rising``: what has waited long is drawn more; ``fresh``: what is new is drawn more."""
    alpha: float = Field(default=1.0, ge=0, le=4)
    """Exponent of the whole weight, age and success included; 0 is uniform."""
    beta: float = Field(default=0.4, ge=0, le=4)
    """Exponent of the importance weights where a request names none."""
    uniform_share: float = Field(default=0.0, ge=0, lt=1)
    """Share of draws that ignore priorities."""
    priority_floor: float = Field(default=0.01, gt=0)
    """No priority is lower."""
    priority_max: float = Field(default=1000.0, gt=0)
    """Higher priorities given by callers are lowered to it."""
    recent_half_life_rows: float = Field(default=10_000.0, ge=1)
    """Appends after which an experience is drawn half as often in mode ``recent``."""
    min_size: int = Field(default=0, ge=0)
    """Live experiences below which draws get 503; with 0 an empty buffer gives an empty batch."""
    samples_per_insert: float | None = Field(default=None, gt=0)
    """Draws for each appended experience; beyond that and ``error_buffer`` they get 429. Unset, there is no limit."""
    error_buffer: float | None = Field(default=None, gt=0)
    """Draws by which the ratio may be missed on either side; at least 1, and at least ``samples_per_insert``."""
    limit_inserts: bool = False
    """Whether appends get 429, too, when draws have fallen behind by more than ``error_buffer``."""

    @model_validator(mode="after")
    def _cannot_deadlock(self) -> Self:
        if (self.samples_per_insert is None) != (self.error_buffer is None):
            raise ValueError("samples_per_insert and error_buffer belong together: set both or neither")
        if self.samples_per_insert is None or self.error_buffer is None:
            if self.limit_inserts:
                raise ValueError("limit_inserts needs samples_per_insert: there is nothing to fall behind")
            return self
        if self.error_buffer < (least := max(1.0, self.samples_per_insert)):
            raise ValueError(f"error_buffer is below {least:g}: a single draw or append would use all of it up")
        return self


class Settings(BaseSettings):
    """Every setting, by group."""

    model_config = SettingsConfigDict(
        env_prefix=ENVIRONMENT_PREFIX, env_nested_delimiter=_DELIMITER, extra="ignore", frozen=True
    )

    server: ServerSettings = ServerSettings()
    auth: AuthSettings = AuthSettings()
    buffer: BufferSettings = BufferSettings()
    embedding: EmbeddingSettings = EmbeddingSettings()
    index: IndexSettings = IndexSettings()
    rebuild: RebuildSettings = RebuildSettings()
    persistence: PersistenceSettings = PersistenceSettings()
    sampling: SamplingSettings = SamplingSettings()

    @model_validator(mode="after")
    def _can_reach_the_least_size(self) -> Self:
        if self.sampling.min_size > self.buffer.capacity:
            raise ValueError("sampling.min_size is above buffer.capacity: there would never be enough to draw from")
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Let the environment win over the file, whose content is given as keywords."""
        del settings_cls, dotenv_settings, file_secret_settings
        return env_settings, init_settings

    def at(self, host: str | None, port: int | None) -> Settings:
        """Return these settings with another address to listen on, as far as one is given."""
        given = {name: value for name, value in (("host", host), ("port", port)) if value is not None}
        try:
            server = ServerSettings(**{**self.server.model_dump(), **given})
        except ValidationError as error:
            raise InvalidSettingsError(_sentences(error, "server.")) from error
        return self.model_copy(update={"server": server})


def known_settings() -> dict[str, list[str]]:
    """Return the fields of each group."""
    return {
        group: list(field.annotation.model_fields)
        for group, field in Settings.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
    }


def load_settings(config: Path | None = None) -> Settings:
    """Read the file, if any, and the environment; raises InvalidSettingsError naming every setting that is wrong."""
    content = _read(config) if config else {}
    problems = _unknown_in_file(content) + _unknown_in_environment()
    if problems:
        raise InvalidSettingsError("\n".join(problems))
    try:
        return Settings(**content)
    except ValidationError as error:
        raise InvalidSettingsError(_sentences(error)) from error


def _sentences(error: ValidationError, prefix: str = "") -> str:
    lines = []
    for item in error.errors(include_url=False):
        place, message = ".".join(map(str, item["loc"])), item["msg"].removeprefix("Value error, ")
        lines.append(f"{prefix}{place}: {message}" if place else message)
    return "\n".join(lines)


def _read(config: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(config.read_text()) or {}
    except (OSError, UnicodeError, yaml.YAMLError) as error:
        raise InvalidSettingsError(f"the settings file cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise InvalidSettingsError(f"{config} must hold groups of settings such as 'buffer:'")
    return content


def _nearest(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
    return f"unknown setting {name}; did you mean {close[0]}?"


def _unknown_in_file(content: dict[str, Any]) -> list[str]:
    known = known_settings()
    every = [f"{group}.{field}" for group, fields in known.items() for field in fields]
    problems = []
    for group, fields in content.items():
        if group not in known:
            problems.append(_nearest(str(group), list(known)))
        elif not isinstance(fields, dict):
            problems.append(f"{group} must hold settings such as {group}.{known[group][0]}")
        else:
            problems += [_nearest(f"{group}.{field}", every) for field in fields if field not in known[group]]
    return problems


def _unknown_in_environment() -> list[str]:
    every = [
        f"{ENVIRONMENT_PREFIX}{group}{_DELIMITER}{field}".upper()
        for group, fields in known_settings().items()
        for field in fields
    ]
    given = [name for name in os.environ if name.startswith(ENVIRONMENT_PREFIX) and _DELIMITER in name]
    return [_nearest(name, every) for name in given if name.upper() not in every]
