"""Logs in once, in a way that the server takes and its documentation does not have. Usage: odd_log_in.py
redis|postgresql|ldap|nats HOST PORT, with PASSWORD in the environment; ends with 1 when refused"""

import os
import socket
import struct
import sys

what, host, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
password = os.environ["PASSWORD"].encode()
server = socket.create_connection((host, port), timeout=20)


def exchange(request, until=b""):
    """The answer, up to these bytes."""
    server.sendall(request)
    answer = b""
    while until not in answer or not answer:
        more = server.recv(4096)
        if not more:
            break
        answer += more
    return answer


def redis():
    """Words in quotes, behind an empty line and a word that is no command."""
    exchange(b"\r\nFOO\n", b"\n")
    return exchange(b'\t"\\x41UTH"\t"%s"\r\n' % password, b"\n") == b"+OK\r\n"


def postgresql():
    """Version 3.100."""
    start = struct.pack(">I", 3 << 16 | 100) + b"user\0alice\0database\0postgres\0\0"
    exchange(struct.pack(">I", len(start) + 4) + start, b"R\0\0\0\x08\0\0\0\x03")
    answer = exchange(b"p" + struct.pack(">I", len(password) + 5) + password + b"\0")
    return answer.startswith(b"R")


def ldap():
    """Lengths in five octets."""

    def part(tag, content, octets=5):
        return bytes([tag, 0x80 | octets]) + len(content).to_bytes(octets, "big") + content

    bind = part(2, b"\x03") + part(4, b"cn=alice,dc=example") + part(0x80, password)
    answer = exchange(part(0x30, b"\x02\x01\x01" + part(0x60, bind), 4))
    return answer[7:10] == b"\x0a\x01\x00"


def nats():
    """Escapes."""
    exchange(b"", b"\r\n")
    request = b'CONNECT {"verbose":false,"user":"alice","pa\\u0073\\u017f":"%s"}\r\nPING\r\n' % password
    return b"PONG" in exchange(request)


if not {"redis": redis, "postgresql": postgresql, "ldap": ldap, "nats": nats}[what]():
    sys.exit(1)
