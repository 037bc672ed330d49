"""Clients that ask a server all at once, at little cost to the machine that they share with it."""

from __future__ import annotations

import selectors
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

_SECONDS = 60.0


class Clients:
    """Connections that stay open, as those of a browser do: what is measured is answers, not handshakes.

    Parameters
    ----------
    sockets
        The connections.
    request
        What each of them asks.
    """

    def __init__(self, sockets: list[socket.socket], request: bytes) -> None:
        self._sockets = sockets
        self._request = request

    def burst(self) -> list[float]:
        """Let all ask at once; return after how many seconds each had its whole answer."""
        answers = dict.fromkeys(self._sockets, b"")
        took: list[float] = []
        with selectors.DefaultSelector() as selector:
            for client in self._sockets:
                selector.register(client, selectors.EVENT_READ, client)
            began = time.perf_counter()
            for client in self._sockets:
                client.sendall(self._request)
            while len(took) < len(self._sockets):
                ready = selector.select(_SECONDS)
                if not ready:
                    raise SystemExit("The server does not answer; see its log.")
                for key, _ in ready:
                    client = key.data
                    answers[client] += _received(client)
                    if _is_whole(answers[client]):
                        took.append(time.perf_counter() - began)
        return took


@contextmanager
def connected(port: int, token: str, path: str, count: int) -> Iterator[Clients]:
    """Connect so many clients to a server on loopback; what is told of them is in `Clients`."""
    lines = [f"GET {path} HTTP/1.1", f"Host: 127.0.0.1:{port}", f"Authorization: token {token}"]
    request = "\r\n".join([*lines, "", ""]).encode()
    with ExitStack() as stack:
        sockets = []
        for _ in range(count):
            # One after the other, each with an answer: a server has room for 128 that it has not accepted yet.
            client = stack.enter_context(socket.create_connection(("127.0.0.1", port), _SECONDS))
            client.sendall(request)
            answer = b""
            while not _is_whole(answer):
                answer += _received(client)
            sockets.append(client)
        yield Clients(sockets, request)


def _received(client: socket.socket) -> bytes:
    data = client.recv(1 << 16)
    if not data:
        raise SystemExit("The server closed a connection; see its log.")
    return data


def _is_whole(answer: bytes) -> bool:
    head, end, body = answer.partition(b"\r\n\r\n")
    if not end:
        return False
    if not head.startswith(b"HTTP/1.1 200 "):
        raise SystemExit(f"The server refuses: {head[:60]!r}")
    length = head.lower().partition(b"\r\ncontent-length:")[2].split(b"\r\n", 1)[0]
    return len(body) >= int(length)
