"""Calls the echo method. Usage: grpc_client.py HOST:PORT [AUTHORITY]"""

import sys

import grpc

target, tls = sys.argv[1], sys.argv[2:]
if tls:
    channel = grpc.secure_channel(target, grpc.ssl_channel_credentials(open(tls[0], "rb").read()))
else:
    channel = grpc.insecure_channel(target)
with channel:
    assert channel.unary_unary("/test.Echo/Say")(b"hello", timeout=15) == b"hello"
