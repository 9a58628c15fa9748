"""A place in the rows where tasks stop and ask the test what to do: faults that come just then."""

from __future__ import annotations

import errno
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import daskgd


@dataclass(frozen=True, slots=True, eq=False)
class Gated:
    """A column in which whoever reads `row` first asks at the gate."""

    column: Any
    row: int
    port: int
    host: str = "127.0.0.1"

    def __getattr__(self, name: str) -> Any:
        if name in Gated.__slots__:  # not there yet, while it is unpickled
            raise AttributeError(name)
        return getattr(self.column, name)

    def read(self, start: int, stop: int) -> Any:
        if start <= self.row < stop:
            with socket.create_connection((self.host, self.port)) as gate:
                gate.sendall(struct.pack("<q", os.getpid()))
                if gate.recv(1) == b"E":
                    raise OSError(errno.EIO, "Input/output error")
        return self.column.read(start, stop)


@dataclass(slots=True)
class Gate:
    """What happens at a gate: `visit` gets the visitor's number, from 1, and its process, and says whether it
    may read on; else the read fails. `errors` are those of `visit`."""

    visit: Callable[[int, int], bool]
    visits: int = 0
    errors: list[BaseException] = field(default_factory=list)

    def serve(self, listener: socket.socket) -> None:
        while True:
            try:
                visitor, _ = listener.accept()
            except OSError:
                return  # closed
            with visitor, suppress(OSError):  # a visitor may be dead by now
                (pid,) = struct.unpack("<q", visitor.recv(8, socket.MSG_WAITALL))
                self.visits += 1
                try:
                    word = b"." if self.visit(self.visits, pid) else b"E"
                except BaseException as error:
                    self.errors.append(error)
                    word = b"."
                visitor.sendall(word)


@contextmanager
def gated(
    dataset: daskgd.Dataset,
    visit: Callable[[int, int], bool],
    row: int = 2500,
    host: str = "127.0.0.1",
    name: str = "X",
) -> Iterator[tuple[daskgd.Dataset, Gate]]:
    """The dataset with a gate at a row of X, or of the column of this name, which listens at an address of
    this machine."""
    listener = socket.create_server((host, 0))
    gate = Gate(visit)
    thread = threading.Thread(target=gate.serve, args=(listener,), daemon=True)
    thread.start()
    try:
        column = Gated(dataset.columns.present[name], row, listener.getsockname()[1], host)
        columns: Any = dataset.columns
        yield dataset.replace(columns._replace(**{name: column}), layout=dataset.layout), gate
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(10)
    assert not gate.errors, gate.errors
