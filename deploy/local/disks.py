"""A small disk for a server's data, and filling it: for faults with full disks.

It is a file system in memory, which only root can mount; `missing` tells why such a fault cannot run here.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import psutil

from deploy.local.children import StackError

BALLAST = "ballast"


@cache
def missing() -> str:
    """Why no small disk can be mounted here; empty if it can."""
    if os.geteuid() != 0:
        return "only root may mount a small disk"
    if shutil.which("mount") is None:
        return "there is no `mount`"
    with tempfile.TemporaryDirectory(prefix="goodfaith-disk-") as place:
        # in a container even root may be refused
        done = _mount(Path(place), 1 << 20)
        unmount(Path(place))
    return f"no small disk can be mounted here: {done.stderr.strip()}" if done.returncode else ""


def move(folder: Path, room: int) -> None:
    """Move the folder of a stopped server onto a disk of its own, with `room` bytes to spare.

    Raises:
        StackError: no disk can be mounted here, or the folder is a disk already.
    """
    if why := missing():
        raise StackError(why)
    if os.path.ismount(folder):
        raise StackError(f"{folder} is a disk of its own already")
    aside = folder.with_name(f"{folder.name}.aside")
    owner = folder.stat()
    folder.rename(aside)
    folder.mkdir(mode=0o700)
    # every file takes whole blocks
    size = sum(max(file.stat().st_blocks * 512, 4096) for file in aside.rglob("*")) + room
    done = _mount(folder, size)
    if done.returncode:
        folder.rmdir()
        aside.rename(folder)
        raise StackError(f"no small disk can be mounted here: {done.stderr.strip()}")
    _copy(aside, folder)
    os.chown(folder, owner.st_uid, owner.st_gid)
    shutil.rmtree(aside)


def move_back(folder: Path) -> None:
    """Undo `move`; the server must not run."""
    aside = folder.with_name(f"{folder.name}.aside")
    owner = folder.stat()
    aside.mkdir(mode=0o700)
    _copy(folder, aside)
    os.chown(aside, owner.st_uid, owner.st_gid)
    unmount(folder)
    folder.rmdir()
    aside.rename(folder)


def _mount(folder: Path, size: int) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size},mode=0700", "tmpfs", str(folder)], capture_output=True, text=True
    )


def unmount(folder: Path) -> None:
    """Unmount the disk of `move`, if there is one; its content is lost."""
    if os.path.ismount(folder):
        subprocess.run(["umount", "-l", str(folder)], check=False, capture_output=True)


def unmount_all(below: Path) -> None:
    """Unmount all such disks below a folder."""
    for partition in psutil.disk_partitions(all=True):
        place = Path(partition.mountpoint)
        if partition.fstype == "tmpfs" and below.resolve() in place.parents:
            unmount(place)


def fill(folder: Path) -> Path:
    """Fill the disk of a folder to the last byte; returns the file to delete."""
    ballast = folder / BALLAST
    with ballast.open("ab", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            try:
                os.posix_fallocate(file.fileno(), file.seek(0, os.SEEK_END), 1 << 20)
            except OSError:
                while file.write(b"\0" * 4096):
                    pass
    return ballast


def _copy(source: Path, target: Path) -> None:
    # keeps sparse files sparse: Kafka's indexes are mostly holes
    done = subprocess.run(
        ["cp", "-a", "--sparse=always", f"{source}/.", str(target)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise StackError(f"{source} cannot be copied: {done.stderr[-500:]}")


@contextlib.contextmanager
def limited(folder: Path, room: int) -> Iterator[None]:
    """`move` for as long as the context lasts. The server must be stopped when it begins and when it ends."""
    move(folder, room)
    yield
    move_back(folder)
