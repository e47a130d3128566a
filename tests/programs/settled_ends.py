"""Connections that are long settled when they end, in each way that a connection can.

settled_ends.py serve PORT                     answers, at every address
settled_ends.py connect PORT COUNT LOG HOST..  COUNT connections of each way to each host, one after the other

The client writes a line of JSON for each connection: the addresses, and the payload bytes each way.
"""

import json
import socket
import struct
import sys
import threading
import time

# More than is captured of a direction (8 KiB), and then more, which passes when it is settled.
BEGINNING = 20_000
MORE = 30_000
REST = 50_000
WAYS = ["client_closes", "server_closes", "half_closed", "reset"]
# A byte that begins no protocol and is no text.
FILL = b"\xee"


def endpoint(address):
    host = address[0].removeprefix("::ffff:")
    return f"[{host}]:{address[1]}" if ":" in host else f"{host}:{address[1]}"


def exactly(connection, count):
    while count > 0:
        got = connection.recv(min(count, 65536))
        if not got:
            raise EOFError(f"{count} bytes are missing")
        count -= len(got)


def reset_at_close(connection):
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def all_acknowledged(connection):
    """The peer has taken all that was sent, and with it the acknowledgement of all that it sent."""
    deadline = time.monotonic() + 10
    # `tcpi_unacked` of `struct tcp_info` (include/uapi/linux/tcp.h).
    while struct.unpack_from("I", connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104), 24)[0] > 0:
        if time.monotonic() > deadline:
            raise TimeoutError("the peer does not acknowledge")
        time.sleep(0.001)


def until_closed(connection):
    while connection.recv(65536):
        pass


def client(host, port, way):
    connection = socket.create_connection((host, port))
    ends = endpoint(connection.getsockname()), endpoint(connection.getpeername())
    connection.sendall(bytes([0xE0 + WAYS.index(way)]))
    sent, received = 1, 0
    for size in (BEGINNING, MORE):
        connection.sendall(FILL * size)
        exactly(connection, size)
        sent += size
        received += size
    if way == "server_closes":
        until_closed(connection)
    elif way == "half_closed":
        connection.shutdown(socket.SHUT_WR)
        exactly(connection, REST)
        received += REST
        until_closed(connection)
    elif way == "reset":
        connection.sendall(FILL)
        sent += 1
        all_acknowledged(connection)
        reset_at_close(connection)
    connection.close()
    return {"client": ends[0], "server": ends[1], "client_bytes": sent, "server_bytes": received}


def serve(connection):
    with connection:
        way = WAYS[connection.recv(1)[0] - 0xE0]
        for size in (BEGINNING, MORE):
            exactly(connection, size)
            connection.sendall(FILL * size)
        if way == "server_closes":
            return
        try:
            until_closed(connection)
        except ConnectionResetError:
            return
        if way == "half_closed":
            connection.sendall(FILL * REST)


def main():
    if sys.argv[1] == "serve":
        with socket.create_server(("::", int(sys.argv[2])), family=socket.AF_INET6, dualstack_ipv6=True) as listener:
            while True:
                threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
    port, count = int(sys.argv[2]), int(sys.argv[3])
    with open(sys.argv[4], "w") as log:
        for _ in range(count):
            for host in sys.argv[5:]:
                for way in WAYS:
                    print(json.dumps(client(host, port, way)), file=log, flush=True)
                    time.sleep(0.005)


main()
