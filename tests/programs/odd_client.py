"""Sends an HTTP request in an odd way, reads the answer to its end, and says which local port it had.
Usage: odd_client.py HOST PORT bytewise|extension-headers|mapped"""

import socket
import sys
import time

host, port, way = sys.argv[1], int(sys.argv[2]), sys.argv[3]
# linux/in6.h; Python has no names for them everywhere.
IPV6_HOPOPTS, IPV6_DSTOPTS = 54, 59
# Next header (filled in by the kernel), length 0 (8 bytes), and a PadN option over the rest.
PADDING = bytes([0, 0, 1, 4, 0, 0, 0, 0])

family = socket.AF_INET if way == "bytewise" and ":" not in host else socket.AF_INET6
client = socket.socket(family, socket.SOCK_STREAM)
client.settimeout(30)
client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
if way == "extension-headers":
    for option in (IPV6_HOPOPTS, IPV6_DSTOPTS):
        client.setsockopt(socket.IPPROTO_IPV6, option, PADDING)
client.connect((f"::ffff:{host}" if way == "mapped" else host, port))
print(client.getsockname()[1], flush=True)
request = f"GET /odd/{way} HTTP/1.1\r\nHost: odd\r\nConnection: close\r\n\r\n".encode()
if way == "bytewise":
    for one in request:
        client.sendall(bytes([one]))
        time.sleep(0.002)
else:
    client.sendall(request)
while client.recv(4096):
    pass
