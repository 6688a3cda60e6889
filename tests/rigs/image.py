"""
The container image, built and run without an engine: debootstrap makes the base, buildah the image.

``buildah run --isolation chroot`` starts a program in the image's files, as its user, on this machine's network:
no registry, no daemon, no virtual machine. What it cannot show, an engine's own doing, is in ``docs/containers.md``.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.child_process import ChildProcess
from tests.rigs.waiting import until

BUILDAH = "/usr/bin/buildah"
DEBOOTSTRAP = "/usr/sbin/debootstrap"
SUITE = "bookworm"
BASE = "localhost/base"
IMAGE = "localhost/sip-voice-gateway"
FIRST_PROCESS = "tini"
CALLS_ON_A_BUSY_MACHINE = {"GATEWAY_SIP__LATE_PERCENT": "0"}
"""The setting that has calls taken although other programs keep the processors busy."""
KEPT_BASE = "BASE_FOLDER"
"""Environment variable: a folder for Debian's files that is kept, so that the next run need not fetch them again."""
AUTHORITIES = Path("/usr/local/share/ca-certificates")
"""Certificates that this machine trusts beside the usual ones, as behind a company's proxy; the build needs them."""


_LOCK = """
root=$1; shift
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount -o remount,bind,ro "$root"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
exec chroot "$root" "$@"
"""


def missing() -> str | None:
    """Return why no image can be built here; None if it can."""
    gone = [path for path in (BUILDAH, DEBOOTSTRAP) if not Path(path).exists()]
    if gone:
        return f"{' and '.join(gone)} missing: `make test-docker` installs them and runs this test"
    return None if os.geteuid() == 0 else "an image is built as root: use `make test-docker`"


@dataclass(frozen=True)
class Storage:
    """Where buildah keeps images and containers: below one folder."""

    folder: Path

    def command(self, *words: str) -> list[str]:
        """Return a command line of buildah that works in this storage."""
        places = ("--root", str(self.folder / "root"), "--runroot", str(self.folder / "run"))
        return [BUILDAH, *places, "--storage-driver", "vfs", *words]

    def run(self, *words: str) -> str:
        """Run buildah to its end; return what it printed. Raises ``AssertionError`` with its last lines."""
        return finished(self.command(*words))


def finished(command: Sequence[str]) -> str:
    """Run a program to its end; return what it printed. Raises ``AssertionError`` with its last lines."""
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, (
        f"{' '.join(command)}: exit code {done.returncode}\n{(done.stdout + done.stderr)[-4000:]}"
    )
    return done.stdout


def make_base(storage: Storage) -> None:
    """Make Debian's smallest system and import it as the local image ``BASE``."""
    kept = os.environ.get(KEPT_BASE)
    files = Path(kept) if kept else storage.folder / "debian"
    if not (files / "etc" / "debian_version").exists():
        finished([DEBOOTSTRAP, "--variant=minbase", SUITE, str(files)])
    trusted = files / AUTHORITIES.relative_to("/")
    trusted.mkdir(parents=True, exist_ok=True)
    for certificate in AUTHORITIES.glob("*.crt"):
        shutil.copy(certificate, trusted)
    container = storage.run("from", "scratch").strip()
    storage.run("add", "--quiet", container, str(files), "/")
    storage.run("commit", "--quiet", "--rm", container, BASE)
    if not kept:
        shutil.rmtree(files)


def build(storage: Storage, root: Path) -> str:
    """Build the image from the repository's root; return what the build printed."""
    how = ("--format", "docker", "--isolation", "chroot", "--network", "host", "--build-arg", f"BASE={BASE}")
    return storage.run("build", *how, "--file", str(root / "docker" / "Dockerfile"), "--tag", IMAGE, str(root))


@dataclass(frozen=True)
class Image:
    """
    The image, with one container that all its programs run in.

    Attributes:
        config: as Docker has it: ``Entrypoint``, ``Cmd``, ``User``, ``Env``, ``Healthcheck``.
        files: the container's root folder on this machine.
    """

    storage: Storage
    container: str
    config: Mapping[str, Any]
    files: Path

    def command(
        self, *words: str, variables: Mapping[str, str] | None = None, temporary: Path | None = None
    ) -> list[str]:
        """
        Return the command line that runs a program in the image, as its user.

        Args:
            words: the program and its arguments.
            variables: its environment beside the image's.
            temporary: a folder of this machine that is its ``/tmp``; programs without one share the container's.
        """
        options = [word for name, value in (variables or {}).items() for word in ("--env", f"{name}={value}")]
        if temporary is not None:
            temporary.mkdir(exist_ok=True)
            temporary.chmod(0o1777)
            options += ["--volume", f"{temporary}:/tmp"]
        # An engine gives containers on the host's network the host's name, too.
        how = ("--isolation", "chroot", "--hostname", socket.gethostname())
        return self.storage.command("run", *how, *options, self.container, "--", *words)

    def run(self, *words: str, variables: Mapping[str, str] | None = None) -> str:
        """Run a program in the image to its end; return what it printed."""
        # Not over buildah's pipes: on a busy machine it may end before it has read them.
        finished(self.command("sh", "-c", 'exec "$@" > /tmp/printed', "sh", *words, variables=variables))
        return (self.files / "tmp" / "printed").read_text(encoding="utf-8")

    def start(
        self, *words: str, variables: Mapping[str, str] | None = None, temporary: Path | None = None
    ) -> Container:
        """Return a process that starts as the image does: its entry point, with these words for its command."""
        return Container(*self.command(*self.config["Entrypoint"], *words, variables=variables, temporary=temporary))

    def locked_down(self, *words: str, variables: Mapping[str, str]) -> ChildProcess:
        """
        Return a process that starts as the image does and has no rights: a read-only file system, no capabilities.

        That is ``--read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges``, made with util-linux.
        """
        environment = [*self.config["Env"], *(f"{name}={value}" for name, value in variables.items())]
        user, group = self.config["User"].split(":")
        drop = ("--clear-groups", "--inh-caps=-all", "--ambient-caps=-all", "--bounding-set=-all", "--no-new-privs")
        inside = ("setpriv", "--reuid", user, "--regid", group, *drop, "env", "-i", *environment)
        command = ("unshare", "--mount", "sh", "-euc", _LOCK, "sh", str(self.files), *inside)
        return ChildProcess(*command, *self.config["Entrypoint"], *words, name="the container", kept_lines=None)

    async def says(self, *words: str, temporary: Path | None = None) -> int:
        """Run a program in the image, such as a health check; return its exit code."""
        async with ChildProcess(*self.command(*words, temporary=temporary)) as program:
            return await program.wait(60)


def image_in(storage: Storage, container: str) -> Image:
    """Return the image that was built in this storage, with a container of it."""
    config = json.loads(storage.run("inspect", "--type", "image", IMAGE))["Docker"]["config"]
    return Image(storage, container, config, Path(storage.run("mount", container).strip()))


@contextmanager
def built_image(folder: Path, root: Path) -> Iterator[Image]:
    """Make the base, build the image, and remove all of it behind the block."""
    storage = Storage(folder)
    try:
        make_base(storage)
        build(storage, root)
        yield image_in(storage, storage.run("from", "--pull-never", IMAGE).strip())
    finally:
        shutil.rmtree(folder)


class Container(ChildProcess):
    """
    A process in the image, inside the ``async with`` block.

    Signals go to the image's own first process, as an engine sends them: buildah itself would not pass them on, it
    would leave what it started behind.
    """

    def __init__(self, *command: str) -> None:
        super().__init__(*command, name="the container", kept_lines=None, stop_limit_s=30)
        self._first: int | None = None

    async def start(self) -> None:
        """Start it, and wait until the image's first process runs."""
        await super().start()
        await until(lambda: self._find_first() or self.exit_code is not None, what="the container's first process")

    def _find_first(self) -> bool:
        self._first = next((pid for pid, name in below(self.pid) if name == FIRST_PROCESS), None)
        return self._first is not None

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to the image's first process; SIGKILL to everything."""
        if self._first is None or number == signal.SIGKILL:
            targets = [self.pid, *(pid for pid, _ in below(self.pid))]
        else:
            targets = [self._first]
        for pid in targets:
            with suppress(ProcessLookupError):
                os.kill(pid, number)


def below(ancestor: int) -> list[tuple[int, str]]:
    """Return the processes below this one, nearest first: their ids and names."""
    parents: dict[int, list[tuple[int, str]]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(FileNotFoundError, ProcessLookupError):
            pid, _, rest = path.read_text(encoding="utf-8", errors="replace").partition(" (")
            name, _, numbers = rest.rpartition(") ")
            parents.setdefault(int(numbers.split()[1]), []).append((int(pid), name))
    found = [*parents.get(ancestor, ())]
    for pid, _ in found:
        found.extend(parents.get(pid, ()))
    return found
