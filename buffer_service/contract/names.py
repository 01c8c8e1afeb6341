"""Names of the Kubernetes API and of everything that belongs to a buffer, each spelled here only."""

from __future__ import annotations

from typing import Final

API_GROUP: Final = "pixelis.dev"
API_VERSION: Final = "v1alpha1"
KIND: Final = "ExperienceBuffer"
PLURAL: Final = "experiencebuffers"
SHORT_NAME: Final = "xbuf"

SERVICE_PORT: Final = 80
"""Port of the Service ``<buffer>``."""
HTTP_PORT: Final = 8080
"""Port on which a pod serves the API."""
OPERATIONS_PORT: Final = 9090
"""Port on which a pod serves probes and metrics."""

POINTER_KEY: Final = "pointer.json"
"""Key of the pointer ConfigMap, and file name of the pointer in a mounted directory."""
TOKEN_VARIABLE: Final = "XBUF_TOKEN"  # noqa: S105 - the name of a variable
"""Environment variable from which commands take a bearer token."""
TOKEN_SCOPES: Final = ("read", "write", "admin")
"""Keys of the token Secret; each holds one bearer token of that scope. admin includes write, write includes read."""

DATA_PATH: Final = "/data"
POINTER_PATH: Final = "/etc/xbuf/pointer"
TOKENS_PATH: Final = "/etc/xbuf/tokens"
STORE_FOLDER: Final = "store"
EXPORT_FOLDER: Final = "export"
INDEXES_FOLDER: Final = "indexes"
POINTER_FOLDER: Final = "pointer"

EXIT_UNUSABLE_INPUT: Final = 65
"""Exit status of a rebuild that would fail again with the same export; a Job is not retried after it."""


def headless_service(buffer: str) -> str:
    """Return the name of the Service that gives each pod of the buffer its own DNS name."""
    return f"{buffer}-pods"


def pointer_config_map(buffer: str) -> str:
    """Return the name of the ConfigMap that points to the generation to serve."""
    return f"{buffer}-index"


def token_secret(buffer: str) -> str:
    """Return the name of the Secret with the bearer tokens."""
    return f"{buffer}-token"


def rebuild_job(buffer: str, generation: int) -> str:
    """Return the name of the Job that builds this generation."""
    return f"{buffer}-rebuild-{generation}"


def rebuild_service_account(buffer: str) -> str:
    """Return the name of the ServiceAccount, Role and RoleBinding of the rebuild Jobs."""
    return f"{buffer}-rebuild"
