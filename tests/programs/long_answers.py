"""HTTP in the clear with answers that are longer than what is captured of them.

long_answers.py serve PORT          answers each connection once, on loopback
long_answers.py connect PORT COUNT  COUNT requests, each on a connection of its own that is closed before the next
"""

import socket
import sys

LONG = 60_000


def head(connection):
    got = b""
    while b"\r\n\r\n" not in got:
        got += connection.recv(65536)
    return got


def serve(connection):
    with connection:
        length = int(head(connection).split(b"Content-Length: ")[1].split(b"\r\n")[0])
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        while length > 0:
            length -= len(connection.recv(65536))
        answer = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n" % LONG
        connection.sendall(answer + b"a" * LONG)
        while connection.recv(65536):
            pass


def ask(port):
    with socket.create_connection(("127.0.0.1", port)) as connection:
        request = b"POST /long HTTP/1.1\r\nHost: long.test\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n" % LONG
        connection.sendall(request)
        head(connection)
        for _ in range(4):
            connection.sendall(b"b" * (LONG // 4))
        left = LONG
        got = connection.recv(65536)
        while b"\r\n\r\n" not in got:
            got += connection.recv(65536)
        left -= len(got.split(b"\r\n\r\n", 1)[1])
        while left > 0:
            left -= len(connection.recv(65536))


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
