"""The operator's settings: environment, flags, and mistakes in both."""

from __future__ import annotations

import pytest
from buffer_operator.settings import InvalidSettingsError, load_settings


def test_flags_win_over_the_environment_and_that_over_defaults() -> None:
    """Each in turn."""
    environment = {"XBUF_IMAGE": "a:1", "XBUF_OPERATOR_WORKERS": "3", "XBUF_OPERATOR_POLL_S": "0.5", "PATH": "/bin"}
    settings = load_settings(["--workers", "4"], environment)
    assert (settings.image, settings.workers, settings.poll_s, settings.resync_s) == ("a:1", 4, 0.5, 300.0)


@pytest.mark.parametrize(
    ("arguments", "environment", "words"),
    [
        ([], {}, "XBUF_IMAGE"),
        ([], {"XBUF_IMAGE": ""}, "XBUF_IMAGE"),
        ([], {"XBUF_IMAGE": "a", "XBUF_OPERATOR_WORKER": "3"}, "XBUF_OPERATOR_WORKERS"),
        (["--image", "a", "--workers", "0"], {}, "workers"),
        (["--image", "a", "--poll-s", "soon"], {}, "poll_s"),
    ],
)
def test_a_mistake_is_named(arguments: list[str], environment: dict[str, str], words: str) -> None:
    """An unknown name comes with the nearest known one, a bad value with its name."""
    with pytest.raises(InvalidSettingsError, match=words):
        load_settings(arguments, environment)


def test_namespaces_are_the_scopes() -> None:
    """None stands for the whole cluster."""
    assert load_settings(["--image", "a"], {}).watched == (None,)
    assert load_settings(["--image", "a", "--namespaces", "x, y"], {}).watched == ("x", "y")
