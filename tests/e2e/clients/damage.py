"""Puts a copy of a generation on the volume, under another number and with one byte of its index changed.

Arguments: the generation to copy and the number of the copy. The result holds the manifest's digest.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import msgspec

from buffer_service.contract import names
from buffer_service.contract.generation import (
    INDEX_FILE,
    MANIFEST_FILE,
    decode_manifest,
    encode_manifest,
    generation_name,
    manifest_digest,
)

source, copy = int(sys.argv[1]), int(sys.argv[2])
indexes = Path(names.DATA_PATH) / names.INDEXES_FOLDER
folder = indexes / generation_name(copy)
shutil.copytree(indexes / generation_name(source), folder)

content = bytearray((folder / INDEX_FILE).read_bytes())
content[len(content) // 2] ^= 1
(folder / INDEX_FILE).unlink()
(folder / INDEX_FILE).write_bytes(content)

manifest = decode_manifest((folder / MANIFEST_FILE).read_bytes())
encoded = encode_manifest(msgspec.structs.replace(manifest, generation=copy))
(folder / MANIFEST_FILE).unlink()
(folder / MANIFEST_FILE).write_bytes(encoded)
sys.stdout.write(json.dumps({"sha256": manifest_digest(encoded), "watermark": manifest.watermark}) + "\n")
