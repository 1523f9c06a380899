"""One client at a time on a TCP port, and the datagrams that go with it."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

import numpy as np

# A client that does not take an answer in so long is gone.
_SEND_S = 0.5
_CHUNK = 65536


class Session:
    """Frames of one client; a context manager that listens as long as it is entered.

    Parameters
    ----------
    host, port
        Where to listen.
    header : numpy.dtype
        With fields ``command``, ``id`` and ``size``, the whole message's.
    requests : mapping
        What follows the header, for each command that is known.
    answer : callable
        Gets command, id and the fields of each request.
    gone : callable
        Called when the client has left, or was sent away because it did not keep to the protocol.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        header: np.dtype[np.void],
        requests: Mapping[Any, np.dtype[np.void]],
        answer: Callable[[int, int, np.void], None],
        gone: Callable[[], None],
    ) -> None:
        self._address = (host, port)
        self._header = header
        self._requests = {int(command): fields for command, fields in requests.items()}
        self._answer = answer
        self._gone = gone
        self._client: socket.socket | None = None
        self._heard = b""
        self._target: tuple[str, int] | None = None

    def __enter__(self) -> Self:
        self._listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.setblocking(False)
        try:
            self._listener.bind(self._address)
            self._listener.listen()
        except OSError:
            self._listener.close()
            raise
        self.datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.datagrams.bind((self._address[0], 0))
        self.datagrams.setblocking(False)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.hang_up()
        self._listener.close()
        self.datagrams.close()

    @property
    def client(self) -> socket.socket | None:
        """The connection, if there is one."""
        return self._client

    def stream_to(self, port: int) -> None:
        """Send datagrams to this port of the client from now on."""
        if self._client is not None:
            self._target = (self._client.getpeername()[0], port)

    def poll(self) -> None:
        """Take what came: a connection, requests, the end of the connection."""
        with contextlib.suppress(BlockingIOError):
            self._welcome(self._listener.accept()[0])
        if self._client is None:
            return
        try:
            heard = self._client.recv(_CHUNK)
        except BlockingIOError:
            return
        except OSError:
            heard = b""
        if not heard:
            self.hang_up()
            return
        self._heard += heard
        while self._client is not None and self._take_frame():
            pass

    def reply(self, command: int, number: int, content: bytes) -> None:
        """Answer a request, in one write."""
        if self._client is None:
            return
        head = np.array((command, number, self._header.itemsize + len(content)), self._header).tobytes()
        try:
            self._client.settimeout(_SEND_S)
            self._client.sendall(head + content)
            self._client.setblocking(False)
        except OSError:
            self.hang_up()

    def send_state(self, state: bytes) -> None:
        """Send a datagram to a client that asked for it; one that cannot be sent is lost, as on any network."""
        if self._target is not None:
            with contextlib.suppress(OSError):
                self.datagrams.sendto(state, self._target)

    def _welcome(self, client: socket.socket) -> None:
        if self._client is not None:
            # A connection that is neither served nor refused would leave its client waiting for ever.
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()
            return
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.setblocking(False)
        self._client, self._heard = client, b""

    def _take_frame(self) -> bool:
        """Answer the first whole request in what was heard; False where there is none."""
        size = self._header.itemsize
        if len(self._heard) < size:
            return False
        head = np.frombuffer(self._heard, self._header, 1)[0]
        fields = self._requests.get(int(head["command"]))
        if fields is None or int(head["size"]) != size + fields.itemsize:
            self.hang_up()
            return False
        if len(self._heard) < size + fields.itemsize:
            return False
        content = self._heard[size : size + fields.itemsize]
        self._heard = self._heard[size + fields.itemsize :]
        request = np.frombuffer(content, fields, 1) if fields.itemsize else np.zeros(1, fields)
        self._answer(int(head["command"]), int(head["id"]), request[0])
        return True

    def hang_up(self) -> None:
        """End the connection, if there is one."""
        client, self._client, self._target, self._heard = self._client, None, None, b""
        if client is not None:
            client.close()
            self._gone()
