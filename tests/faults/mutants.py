"""Known-bad variants of the product, each of which the tests must catch. Run: make mutants.

Each is one change to one file, made in a copy of the tree; the tests that are named must then fail. A change whose text
is not found any more is an error: it has to be written anew for the code as it is.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parents[2]
COPIED = ("buffer_service", "buffer_client", "operator", "tests", "pyproject.toml")
TIMEOUT_S = 300


@dataclass(frozen=True, slots=True)
class Mutant:
    """What is made wrong, and which tests must notice."""

    name: str
    file: str
    before: str
    after: str
    tests: str


CRASH_POINTS = "tests/property/test_store_crash_points.py"
RECOVERY = "tests/unit/storage/test_file_recovery.py"
EPOCH = "tests/unit/storage/test_epoch.py"
BUFFER = "tests/unit/core/test_buffer.py"
READING = "tests/unit/core/test_reading.py"

MUTANTS = (
    Mutant(
        "a group is not synced",
        "buffer_service/storage/log.py",
        "        segment.file.sync()\n        base = place_of",
        "        base = place_of",
        CRASH_POINTS,
    ),
    Mutant(
        "the name of a new segment is not synced",
        "buffer_service/storage/log.py",
        "            self._system.sync_folder(self._folder)\n        except FileExistsError",
        "        except FileExistsError",
        CRASH_POINTS,
    ),
    Mutant(
        "a file is not synced before its rename",
        "buffer_service/storage/fs.py",
        "        file.sync()\n        if verify is not None:",
        "        if verify is not None:",
        CRASH_POINTS,
    ),
    Mutant(
        "zeroes are the end of the log whatever stands behind them",
        "buffer_service/storage/log_recovery.py",
        "unused = rest == bytes(len(rest))",
        "unused = rest[:8] == bytes(8)",
        "tests/unit/storage/test_spare.py",
    ),
    Mutant(
        "a segment is made ahead without a sync",
        "buffer_service/storage/spare.py",
        "            file.write_at(content, 0)\n            file.sync()\n",
        "            file.write_at(content, 0)\n",
        CRASH_POINTS,
    ),
    Mutant(
        "the log goes on in a segment though the next one has its name",
        "buffer_service/storage/log.py",
        "return is_full or is_ahead or self._coming is not None",
        "return is_full or is_ahead",
        "tests/property/test_store_faults.py",
    ),
    Mutant(
        "a write is acknowledged before its commit",
        "buffer_service/core/writer.py",
        "        if group.operations:\n            self._store.commit(group)",
        "        for request, answer, _ in answers:\n"
        "            request.succeed(answer)\n            request.answer()\n"
        "        if group.operations:\n            self._store.commit(group)",
        BUFFER,
    ),
    Mutant(
        "a refusal is answered before what it refers to is committed",
        "buffer_service/core/writer.py",
        "            return None, error\n",
        "            request.fail(error)\n            request.answer()\n            return None, error\n",
        BUFFER,
    ),
    Mutant(
        "a failed commit does not stop writes",
        "buffer_service/core/writer.py",
        '        self.failure = f"{type(error).__name__}: {error}"',
        "        pass",
        BUFFER,
    ),
    Mutant(
        "the epoch is ignored",
        "buffer_service/storage/epoch.py",
        "        if newest != self.number:",
        "        if False:",
        EPOCH,
    ),
    Mutant(
        "the epoch is not checked again before the answer",
        "buffer_service/storage/file_store.py",
        "in it.\n            self._epoch.check()",
        "in it.",
        EPOCH,
    ),
    Mutant(
        "a process goes on with a segment of the one before",
        "buffer_service/storage/log.py",
        " or segment.header.epoch != self.epoch\n",
        "\n",
        EPOCH,
    ),
    Mutant(
        "a new segment takes the place of another one's",
        "buffer_service/storage/fs.py",
        "        system.rename_new(beside, path)",
        "        system.rename(beside, path)",
        EPOCH,
    ),
    Mutant(
        "the client ids of what has gone are forgotten",
        "buffer_service/storage/group.py",
        "        remember(self.table.retired, self.retired)\n",
        "",
        BUFFER,
    ),
    Mutant(
        "the checksum of a frame is not looked at",
        "buffer_service/storage/log_format.py",
        "    if google_crc32c.extend(head_crc, data[start:end]) != crc:",
        "    if False:",
        RECOVERY,
    ),
    Mutant(
        "an eviction stays out of the transaction",
        "buffer_service/storage/lmdb_write.py",
        "        for experience in sorted(group.dropped):",
        "        for experience in ():",
        "tests/property/test_store_machine.py tests/unit/storage/test_stores.py",
    ),
    Mutant(
        "the files of a generation are not compared with its manifest",
        "buffer_service/index/generations.py",
        "    for name, expected in manifest.files.items():\n        _check_file",
        "    for name, expected in ():\n        _check_file",
        "tests/unit/index/test_generations.py",
    ),
    Mutant(
        "the canaries are not searched",
        "buffer_service/index/generations.py",
        "    _check_canaries(main, _canary_vectors(folder, manifest))\n    return main",
        "    return main",
        "tests/unit/index/test_generations.py",
    ),
    Mutant(
        "the pointer moves before the generation is synced",
        "buffer_service/index/generations.py",
        "    for name in manifest.files:\n        sync_file(building / name)\n",
        "",
        "tests/faults/test_publication_order.py",
    ),
    Mutant(
        "the generation's name is not synced",
        "buffer_service/index/generations.py",
        "    sync_folder(indexes)\n    return manifest_digest(data)",
        "    return manifest_digest(data)",
        "tests/faults/test_publication_order.py",
    ),
    Mutant(
        "the pointer moves without comparing",
        "buffer_service/index/pointer_store.py",
        "            if found != expected:",
        "            if False:",
        "tests/unit/index/test_pointer_store.py",
    ),
    Mutant(
        "a late Job moves the pointer back",
        "buffer_service/index/rebuild.py",
        "        if current.generation >= manifest.generation or current.watermark > manifest.watermark:",
        "        if False:",
        "tests/unit/index/test_rebuild.py",
    ),
    Mutant(
        "what is half built stays",
        "buffer_service/index/rebuild.py",
        "        shutil.rmtree(building, ignore_errors=True)\n        raise",
        "        raise",
        "tests/faults/test_full_disk_rebuild.py",
    ),
    Mutant(
        "searches wait behind writes",
        "buffer_service/api/routes.py",
        "        sequence = await asyncio.wrap_future(buffer.remove_soon(experience))",
        "        sequence = await hot.on_thread(lambda: buffer.remove(experience))",
        "tests/faults/test_slow_disk.py",
    ),
    Mutant(
        "what leaves during a switch is forgotten",
        "buffer_service/core/serving.py",
        "        for experience in self._died or ():",
        "        for experience in ():",
        BUFFER,
    ),
    Mutant(
        "the delta is trimmed by nothing",
        "buffer_service/index/delta.py",
        'side="right"))',
        'side="right")) * 0',
        "tests/unit/index/test_delta.py",
    ),
    Mutant(
        "a row that left is not hidden",
        "buffer_service/index/main.py",
        "return self.dead_at[positions] <= sequence if",
        "return self.dead_at[positions] < 0 if",
        "tests/property/test_buffer_machine.py",
    ),
    Mutant(
        "a view sees rows that were filed after it",
        "buffer_service/index/delta.py",
        "            return (positions >= rows) | (self.dead_at",
        "            return (positions < 0) | (self.dead_at",
        "tests/unit/index/test_lists.py",
    ),
    Mutant(
        "rows that were filed after a view are not looked for",
        "buffer_service/index/delta.py",
        "if not self.dead and (filed is None or filed.rows <= rows):",
        "if not self.dead:",
        "tests/unit/index/test_lists.py",
    ),
    Mutant(
        "the list in which a row is filed is left out for being far",
        "buffer_service/index/coarse.py",
        "        near[:, 0] = True",
        "        near[:, 0] = False",
        "tests/unit/index/test_reach.py",
    ),
    Mutant(
        "a known head is taken for a request inside another",
        "buffer_service/api/direct.py",
        "if self._between and not self.busy else None",
        "if not self.busy else None",
        "tests/unit/api/test_heads.py",
    ),
    Mutant(
        "a request with a known head overtakes the one before",
        "buffer_service/api/direct.py",
        "if self._between and not self.busy else None",
        "if self._between else None",
        "tests/unit/api/test_direct.py",
    ),
    Mutant(
        "a known head has another body's length",
        "buffer_service/api/heads.py",
        "if known is None or len(data) - end != known[1]:",
        "if known is None:",
        "tests/unit/api/test_heads.py",
    ),
    Mutant(
        "lists grow while they are searched",
        "buffer_service/index/lists.py",
        "        with self._lock:\n            return search_lists",
        "        if True:\n            return search_lists",
        "tests/unit/index/test_lists.py",
    ),
    Mutant(
        "an experience is read of several moments",
        "buffer_service/core/reading.py",
        "    with table.lock:\n        found = ",
        "    if True:\n        found = ",
        READING,
    ),
    Mutant(
        "a page shows a write before searches do",
        "buffer_service/core/buffer.py",
        "            self.serving.publish(view)\n            self.store.table.published.notify_all()",
        "            self.store.table.published.notify_all()\n        self.serving.publish(view)",
        READING,
    ),
    Mutant(
        "a record that is missing has gone already",
        "buffer_service/core/reading.py",
        "        _wait_until_gone(table, live",
        "        print(table, live",
        READING,
    ),
    Mutant(
        "a search that was given up is done",
        "buffer_service/core/dispatcher.py",
        "if search.future.cancelled()]",
        "if False]",
        "tests/unit/core/test_dispatcher.py",
    ),
)


def copy_tree(folder: Path) -> None:
    """Copy what the tests need."""
    ignored = shutil.ignore_patterns("__pycache__", "e2e", "cluster")
    for part in COPIED:
        source = ROOT / part
        if source.is_dir():
            shutil.copytree(source, folder / part, ignore=ignored)
        else:
            shutil.copy(source, folder)


def failure(folder: Path, tests: set[str]) -> str:
    """Run tests in a copy; returns what failed, if any did; ends the program when they cannot run at all."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *sorted(tests)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(folder / "operator")])}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    if done.returncode not in (0, 1):
        raise SystemExit(f"the tests could not run:\n{done.stdout}{done.stderr}")
    return done.stdout if done.returncode else ""


def is_caught(mutant: Mutant) -> bool:
    """Return whether the tests noticed."""
    with tempfile.TemporaryDirectory(prefix="xbuf-mutant-") as name:
        copy_tree(Path(name))
        path = Path(name) / mutant.file
        text = path.read_text()
        if text.count(mutant.before) != 1:
            raise SystemExit(f"{mutant.name}: its text stands {text.count(mutant.before)} times in {mutant.file}")
        path.write_text(text.replace(mutant.before, mutant.after))
        return bool(failure(Path(name), set(mutant.tests.split())))


def main() -> int:
    """Print the table; 0 only if the unchanged tree passes and every mutant was caught."""
    wanted = sys.argv[1:]
    chosen = [mutant for mutant in MUTANTS if not wanted or any(part in mutant.name for part in wanted)]
    if not chosen:
        raise SystemExit(f"no mutant is called {' or '.join(wanted)}; without a name, all are run")
    with tempfile.TemporaryDirectory(prefix="xbuf-mutant-") as name:
        copy_tree(Path(name))
        if found := failure(Path(name), {path for mutant in chosen for path in mutant.tests.split()}):
            raise SystemExit(f"the tests fail on the unchanged tree, so they prove nothing:\n{found}")
    table = Table("mutant", "caught", "s", "by")
    survivors = 0
    for mutant in chosen:
        started = time.monotonic()
        caught = is_caught(mutant)
        survivors += not caught
        seconds = f"{time.monotonic() - started:.0f}"
        table.add_row(mutant.name, "✓" if caught else "✗ SURVIVED", seconds, mutant.tests.replace(" ", "\n"))
    Console().print(table)
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
