"""What the end-to-end tests share: the cluster, the operator that is installed in it, namespaces, measured times.

The cluster is that of E2E_KUBECONFIG, else that of KUBECONFIG. Clients run from the image of E2E_IMAGE, else from the
operator's. Tests run one after the other and share the operator: a test that stops it starts it again.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from tests.e2e.support.diagnostics import describe
from tests.e2e.support.kubectl import CommandError, Kubectl, command
from tests.e2e.support.measured import Measured
from tests.e2e.support.namespaces import Namespaces
from tests.e2e.support.operator import Operator

_HERE = Path(__file__).parent
_NAMESPACES = pytest.StashKey[Namespaces]()
_MEASURED = pytest.StashKey[Measured]()


def pytest_configure(config: pytest.Config) -> None:
    """Point kubectl and helm to the cluster, and begin the lists of this run."""
    if "E2E_KUBECONFIG" in os.environ:
        os.environ["KUBECONFIG"] = os.environ["E2E_KUBECONFIG"]
    config.stash[_NAMESPACES] = Namespaces(uuid.uuid4().hex[:5])
    config.stash[_MEASURED] = Measured()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test of this folder."""
    for item in items:
        if _HERE in item.path.parents:
            item.add_marker(pytest.mark.e2e)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the state of the cluster to the report of a test that failed."""
    report = yield
    if report.failed and _HERE in item.path.parents:
        report.sections.append(("cluster", describe(item.config.stash[_NAMESPACES].present)))
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """List the measured times."""
    lines = terminalreporter.config.stash[_MEASURED].lines
    if lines:
        terminalreporter.section("measured")
        terminalreporter.write_line("\n".join(lines))


@pytest.fixture(scope="session")
def measured(pytestconfig: pytest.Config) -> Measured:
    """Return where times with a bar are kept."""
    return pytestconfig.stash[_MEASURED]


@pytest.fixture(scope="session")
def namespaces(pytestconfig: pytest.Config) -> Iterator[Namespaces]:
    """Yield the maker of namespaces; at the end of the run all of its namespaces are gone."""
    try:
        command("kubectl", "--request-timeout=10s", "get", "--raw", "/readyz")
    except CommandError as error:
        pytest.exit(f"the end-to-end tests need a cluster (make cluster-up, or E2E_KUBECONFIG): {error}", 1)
    made = pytestconfig.stash[_NAMESPACES]
    yield made
    made.remove_all()


@pytest.fixture(scope="session")
def operator(namespaces: Namespaces) -> Operator:
    """Return the operator that is installed."""
    del namespaces
    found = Operator.find()
    found.wait_ready()
    return found


@pytest.fixture(scope="session")
def image(operator: Operator) -> str:
    """Return the image of the client pods."""
    return os.environ.get("E2E_IMAGE") or operator.image


@pytest.fixture(scope="module")
def nobody_else(namespaces: Namespaces) -> Iterator[str]:
    """Have no operator in the cluster while a module's tests run their own; yields the image of the one installed."""
    del namespaces
    installed = Operator.find()
    with installed.stopped():
        yield os.environ.get("E2E_IMAGE") or installed.image


@pytest.fixture
def kubectl(request: pytest.FixtureRequest, namespaces: Namespaces) -> Iterator[Kubectl]:
    """Yield kubectl in a namespace of the test's own."""
    purpose = request.path.stem.removeprefix("test_").replace("_", "-")[:30].rstrip("-")
    made = namespaces.make(f"{purpose}-{uuid.uuid4().hex[:4]}")
    yield made
    namespaces.remove(made)
