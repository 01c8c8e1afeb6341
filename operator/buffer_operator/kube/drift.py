"""Whether an object is as it should be: pure comparison of a manifest with what the API server has."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Final

from buffer_operator.kube import labels
from buffer_operator.kube.kinds import Json

_QUANTITY: Final = re.compile(r"([0-9]+(?:\.[0-9]*)?)(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?")
_DECIMAL: Final = {"": 0, "k": 1, "M": 2, "G": 3, "T": 4, "P": 5, "E": 6}
_BINARY: Final = {"Ki": 1, "Mi": 2, "Gi": 3, "Ti": 4, "Pi": 5, "Ei": 6}


def differs(wanted: Json, found: Json) -> bool:
    """Whether the manifest has to be applied.

    Either what we want has changed (then a field that we gave up may have to go), or somebody has changed a field of
    ours. Fields that the API server or others have added do not count.
    """
    digest = wanted["metadata"]["annotations"][labels.APPLIED]
    if found["metadata"].get("annotations", {}).get(labels.APPLIED) != digest:
        return True
    return not covers(wanted, found)


def covers(wanted: object, found: object) -> bool:
    """Whether all that is wanted is there; what else is there does not count, but for items of a list."""
    if wanted == found:
        return True
    if isinstance(wanted, dict):
        return isinstance(found, dict) and all(covers(value, found.get(key)) for key, value in wanted.items())
    if isinstance(wanted, list):
        return (
            isinstance(found, list)
            and len(wanted) == len(found)
            and all(covers(one, other) for one, other in zip(wanted, found, strict=True))
        )
    return _same_quantity(wanted, found)


def _same_quantity(wanted: object, found: object) -> bool:
    """The API server rewrites 0.5 as 500m; that is no change."""
    if not (isinstance(wanted, str) and isinstance(found, str)):
        return False
    one, other = quantity(wanted), quantity(found)
    return one is not None and one == other


def quantity(text: str) -> Decimal | None:
    """Return the value of a Kubernetes quantity, None for what is none."""
    matched = _QUANTITY.fullmatch(text)
    if matched is None:
        return None
    number, suffix = Decimal(matched.group(1)), matched.group(2) or ""
    if suffix == "m":
        return number / 1000
    if suffix in _BINARY:
        return number * Decimal(1024) ** _BINARY[suffix]
    return number * Decimal(1000) ** _DECIMAL[suffix]
