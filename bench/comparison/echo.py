"""A WebSocket echo: the app behind every proxy in the case `websocket`. It runs as a process of its own."""

import selectors
import socket
import sys

# One WebSocket message of a client (RFC 6455 section 5.2): FIN and text, masked with zeros, which leaves it readable.
TEXT = b"x" * 32
MESSAGE = bytes([0x81, 0x80 | len(TEXT)]) + bytes(4) + TEXT
ECHO = bytes([0x81, len(TEXT)]) + TEXT
# What a client asks with, and the answer to its key (RFC 6455 section 1.3).
UPGRADE = (
    "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)
UPGRADED = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
)


def serve(port):
    """Upgrades every connection and echoes its messages, which are all of one length."""
    listener = socket.create_server(("127.0.0.1", port), backlog=1024)
    waiting = selectors.DefaultSelector()
    waiting.register(listener, selectors.EVENT_READ)
    unread = {}
    while True:
        for key, _ in waiting.select():
            if key.fileobj is listener:
                connection = listener.accept()[0]
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                waiting.register(connection, selectors.EVENT_READ)
                unread[connection] = None
            elif not _echo(key.fileobj, unread):
                waiting.unregister(key.fileobj)
                unread.pop(key.fileobj)
                key.fileobj.close()


def _echo(connection, unread):
    """Answers what has arrived; whether the connection is still open. `None` stands for a request without its end."""
    try:
        data = connection.recv(65536)
        if not data:
            return False
        if unread[connection] is None:
            if b"\r\n\r\n" in data:
                unread[connection] = b""
                connection.sendall(UPGRADED)
            return True
        data = unread[connection] + data
        whole = len(data) // len(MESSAGE)
        unread[connection] = data[whole * len(MESSAGE) :]
        connection.sendall(ECHO * whole)
        return True
    except OSError:
        return False


if __name__ == "__main__":
    serve(int(sys.argv[1]))
