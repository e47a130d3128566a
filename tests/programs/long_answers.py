"""HTTP in the clear with requests and answers that are longer than what is captured of them.

long_answers.py serve PORT          answers each connection once, on loopback
long_answers.py connect PORT COUNT  COUNT requests, each on a connection of its own that is closed before the next
"""

import socket
import sys

LONG = 60_000


def some(connection):
    got = connection.recv(65536)
    if not got:
        raise EOFError("the other end has closed")
    return got


def head(connection):
    """A head, and what came behind it."""
    got = b""
    while b"\r\n\r\n" not in got:
        got += some(connection)
    return got.split(b"\r\n\r\n", 1)


def exactly(connection, count):
    while count > 0:
        count -= len(some(connection))


def serve(connection):
    with connection:
        head(connection)
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        exactly(connection, LONG)
        answer = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n" % LONG
        connection.sendall(answer + b"a" * LONG)
        while connection.recv(65536):
            pass


def ask(port):
    with socket.create_connection(("127.0.0.1", port)) as connection:
        request = b"POST /long HTTP/1.1\r\nHost: long.test\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n" % LONG
        connection.sendall(request)
        head(connection)
        connection.sendall(b"b" * LONG)
        _, body = head(connection)
        exactly(connection, LONG - len(body))


def main():
    port = int(sys.argv[2])
    if sys.argv[1] == "connect":
        for _ in range(int(sys.argv[3])):
            ask(port)
        return
    with socket.create_server(("127.0.0.1", port)) as listener:
        while True:
            serve(listener.accept()[0])


main()
