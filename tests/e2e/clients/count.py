"""Says what a buffer holds: how many experiences, and which of their vectors do not find them."""

from __future__ import annotations

import json
import os
import sys

import rows

from buffer_client import BufferClient

with BufferClient(os.environ["XBUF_URL"], token=os.environ["XBUF_TOKEN"]) as client:
    held = rows.stored(client)
    result = {"records": len(held), "rows": len(set(held.values())), "not_found": rows.not_found(client, held)}
sys.stdout.write(json.dumps(result) + "\n")
