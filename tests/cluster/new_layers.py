"""Cuts an image archive down to the layers that a node does not have.

`docker save` writes every layer each time, and containerd reads every one again, although a changed source touches the
last alone. This writes the same image as an OCI layout that holds only blobs whose digests are not among those given.

Invariant: digests are computed from what is written, so a layer is left out only where its very bytes are on the node.
"""

import hashlib
import io
import json
import sys
import tarfile
from typing import Any

Blob = io.BytesIO | io.BufferedReader

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG = "application/vnd.docker.container.image.v1+json"
LAYER = "application/vnd.docker.image.rootfs.diff.tar"
GZIP_MAGIC = b"\x1f\x8b"


def describe(blob: Blob, media_type: str) -> dict[str, Any]:
    """The OCI descriptor of a blob, which is left at its start."""
    blob.seek(0)
    digest = f"sha256:{hashlib.file_digest(blob, 'sha256').hexdigest()}"
    size = blob.seek(0, io.SEEK_END)
    blob.seek(0)
    return {"mediaType": media_type, "digest": digest, "size": size}


def layer_type(blob: Blob) -> str:
    """The media type of a layer, which some daemons save compressed."""
    compressed = blob.read(len(GZIP_MAGIC)) == GZIP_MAGIC
    return f"{LAYER}.gzip" if compressed else LAYER


def write(target: tarfile.TarFile, name: str, content: Blob, size: int) -> None:
    """Adds one file to the layout."""
    entry = tarfile.TarInfo(name)
    entry.size = size
    target.addfile(entry, content)


def write_json(target: tarfile.TarFile, name: str, value: object) -> None:
    """Adds one JSON file to the layout."""
    text = json.dumps(value).encode()
    write(target, name, io.BytesIO(text), len(text))


def write_blob(target: tarfile.TarFile, blob: Blob, described: dict[str, Any]) -> None:
    """Adds a blob under its digest."""
    write(target, f"blobs/{described['digest'].replace(':', '/')}", blob, described["size"])


def convert(source: tarfile.TarFile, target: tarfile.TarFile, present: set[str]) -> None:
    """Writes the one image of `source` as an OCI layout, without the layers that are present already."""
    saved = json.load(opened(source, "manifest.json"))[0]
    config = opened(source, saved["Config"])
    described_config = describe(config, CONFIG)
    write_blob(target, config, described_config)
    layers = []
    for name in saved["Layers"]:
        layer = opened(source, name)
        described = describe(layer, layer_type(layer))
        layers.append(described)
        if described["digest"] not in present:
            present.add(described["digest"])
            write_blob(target, layer, described)
    manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": described_config, "layers": layers}
    blob = io.BytesIO(json.dumps(manifest).encode())
    described = describe(blob, MANIFEST)
    write_blob(target, blob, described)
    described["annotations"] = {"io.containerd.image.name": f"docker.io/library/{saved['RepoTags'][0]}"}
    write_json(target, "index.json", {"schemaVersion": 2, "manifests": [described]})
    write_json(target, "oci-layout", {"imageLayoutVersion": "1.0.0"})


def opened(source: tarfile.TarFile, name: str) -> io.BufferedReader:
    """A file of the archive, through links where a layer occurs twice."""
    file = source.extractfile(name)
    if not isinstance(file, io.BufferedReader):
        raise SystemExit(f"{name} is not a file of the archive")
    return file


def main() -> None:
    """`new_layers.py ARCHIVE <DIGESTS >LAYOUT`: digests of the blobs that the node has, one a line."""
    present = set(sys.stdin.read().split())
    with tarfile.open(sys.argv[1]) as source, tarfile.open(fileobj=sys.stdout.buffer, mode="w|") as target:
        convert(source, target, present)


if __name__ == "__main__":
    main()
