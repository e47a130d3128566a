"""TLS, and then in the clear on the same connection: after both ends have closed TLS, or without a word.

Usage: tls_then_plain.py serve PORT CERTIFICATE KEY HOW | connect HOST PORT AUTHORITY LINES HOW PAUSE CLEAR
HOW: closed | abrupt
The client sends LINES lines within TLS, waits for PAUSE seconds, leaves TLS, and then sends CLEAR lines (-1: until it
is killed), a quarter of a second apart; the server echoes."""

import socket
import ssl
import sys
import time

LINE = b"a line that anybody on the way can read, once TLS is over\n"


def echo(stream, lines=None):
    while lines is None or lines > 0:
        data = stream.recv(4096)
        if not data:
            return
        stream.sendall(data)
        if lines is not None:
            lines -= data.count(b"\n")


def leave(stream, how):
    return stream.unwrap() if how == "closed" else socket.socket(fileno=stream.detach())


def serve(port, certificate, key, how):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    # 1.2: both ends agree on where TLS ends.
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    listener = socket.create_server(("", int(port)))
    while True:
        connection, _ = listener.accept()
        stream = context.wrap_socket(connection, server_side=True)
        lines = int(stream.recv(64))
        stream.sendall(b"ready\n")
        echo(stream, lines)
        plain = leave(stream, how)
        echo(plain)
        plain.close()


def connect(host, port, authority, lines, how, pause, clear):
    context = ssl.create_default_context(cafile=authority)
    stream = context.wrap_socket(socket.create_connection((host, int(port))), server_hostname=host)
    stream.sendall(lines.encode())
    stream.recv(64)
    for _ in range(int(lines)):
        stream.sendall(LINE)
        stream.recv(4096)
    time.sleep(float(pause))
    plain = leave(stream, how)
    print("in the clear", flush=True)
    left = int(clear)
    while left != 0:
        plain.sendall(LINE)
        plain.recv(4096)
        left -= 1
        if left != 0:
            time.sleep(0.25)
    plain.close()


{"serve": serve, "connect": connect}[sys.argv[1]](*sys.argv[2:])
