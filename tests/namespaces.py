"""A network namespace of Linux: a machine of its own, as far as the network goes, that can be cut off."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


def run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


@dataclass(frozen=True, slots=True)
class Namespace:
    """A namespace with one wire to this machine.

    Attributes
    ----------
    name : str
    ours, theirs : str
        Addresses of the two ends of the wire.
    """

    name: str
    ours: str
    theirs: str

    def command(self, *command: str) -> list[str]:
        """A command that runs in the namespace."""
        return ["ip", "netns", "exec", self.name, *command]

    def cut(self, there: bool = True, back: bool = True) -> None:
        """Lose every packet from here to there, from there to here, or both, without a word: they go to a
        network card that does not exist."""
        nobody = ("lladdr", "02:00:00:00:00:99", "nud", "permanent")
        if there:
            run("ip", "neigh", "replace", self.theirs, "dev", f"{self.name}a", *nobody)
        if back:
            run("ip", "-n", self.name, "neigh", "replace", self.ours, "dev", f"{self.name}b", *nobody)

    def mend(self) -> None:
        """Lose no more packets."""
        for command in (
            ["ip", "neigh", "del", self.theirs, "dev", f"{self.name}a"],
            ["ip", "-n", self.name, "neigh", "del", self.ours, "dev", f"{self.name}b"],
        ):
            subprocess.run(command, check=False, capture_output=True)  # there may be nothing to mend


@contextmanager
def namespace() -> Iterator[Namespace]:
    """A namespace, which is removed at the end.

    Raises
    ------
    PermissionError : where none can be made: it takes Linux, its command ip, and a superuser.
    """
    if not shutil.which("ip"):
        raise PermissionError("needs the command ip")
    number = os.getpid() % 250
    space = Namespace(f"dgd{os.getpid()}", f"10.214.{number}.1", f"10.214.{number}.2")
    name, ours, theirs = space.name, f"{space.name}a", f"{space.name}b"
    try:
        run("ip", "netns", "add", name)
    except subprocess.CalledProcessError as error:
        raise PermissionError(error.stderr.decode()) from error
    try:
        try:
            run("ip", "link", "add", ours, "type", "veth", "peer", "name", theirs, "netns", name)
            run("ip", "addr", "add", f"{space.ours}/24", "dev", ours)
            run("ip", "link", "set", ours, "up")
            run("ip", "-n", name, "addr", "add", f"{space.theirs}/24", "dev", theirs)
            run("ip", "-n", name, "link", "set", theirs, "up")
            run("ip", "-n", name, "link", "set", "lo", "up")
        except subprocess.CalledProcessError as error:
            raise PermissionError(error.stderr.decode()) from error
        yield space
    finally:
        subprocess.run(["ip", "link", "del", ours], check=False, capture_output=True)
        subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)
