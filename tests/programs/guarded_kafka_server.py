"""As much of a Kafka broker as a log-in by SASL PLAIN takes; no broker that can be installed has it.

Usage: guarded_kafka_server.py ADDRESS PORT, with PASSWORD in the environment. Versions of the message
definitions: ApiVersions 0, Metadata 1, SaslHandshake 1, SaslAuthenticate 0.
"""

import os
import socketserver
import struct
import sys

address, port = sys.argv[1], int(sys.argv[2])
password = os.environ["PASSWORD"].encode()
VERSIONS = [(3, 1, 1), (17, 1, 1), (18, 0, 0), (36, 0, 0)]


def text(value):
    return struct.pack(">h", len(value)) + value


def metadata():
    broker = struct.pack(">i", 1) + text(address.encode()) + struct.pack(">ih", port, -1)
    return struct.pack(">i", 1) + broker + struct.pack(">ii", 1, 0)


class Broker(socketserver.StreamRequestHandler):
    def handle(self):
        while len(length := self.rfile.read(4)) == 4:
            request = self.rfile.read(struct.unpack(">i", length)[0])
            key, version, correlation, name = struct.unpack_from(">hhih", request)
            answer, ends = self.answer(key, version, request[10 + max(name, 0) :])
            answer = struct.pack(">i", correlation) + answer
            self.wfile.write(struct.pack(">i", len(answer)) + answer)
            if ends:
                return

    def answer(self, key, version, body):
        if key == 18:
            error = 35 if version > 0 else 0
            known = b"".join(struct.pack(">hhh", *row) for row in VERSIONS)
            return struct.pack(">hi", error, len(VERSIONS)) + known, False
        if key == 17:
            return struct.pack(">hi", 0, 1) + text(b"PLAIN"), False
        if key == 36:
            given = body[4:].split(b"\0")[2]
            error = 0 if given == password else 58
            return struct.pack(">h", error) + text(b"no" if error else b"") + struct.pack(">i", 0), error != 0
        return metadata(), False


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


Server((address, port), Broker).serve_forever()
