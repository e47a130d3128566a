"""One HTTP request and its answer, sent in a way that a watcher may misread.

Usage: evade.py serve PORT [deferred|fastopen|mptcp|reuseport|splice|zerocopy|uring]
       evade.py answer HOST PORT WAY      with packets of its own, to one connection of HOST
       evade.py connect HOST PORT WAY     with the sockets of the kernel
       evade.py crossed HOST PORT OWN-HOST OWN-PORT asks|answers
                                          one end of a connection that both begin, with a socket of the kernel
       evade.py raw HOST PORT WAY         with packets of its own, from the address behind the last one
                                          (the other end has to know where that is: `ip neigh`)

The client prints a JSON object: its port, the payload bytes that it sent and got."""

import array
import ctypes
import itertools
import json
import mmap
import os
import select
import socket
import struct
import sys
import tempfile
import threading
import time

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello"
libc = ctypes.CDLL(None, use_errno=True)
MPTCP = 262
SOL_MPTCP, MPTCP_INFO = 284, 1
SO_ZEROCOPY, MSG_ZEROCOPY, MSG_FASTOPEN, TCP_FASTOPEN = 60, 0x4000000, 0x20000000, 23


def request(way, size=0):
    head = f"POST /evade/{way} HTTP/1.1\r\nHost: odd\r\nConnection: close\r\nContent-Length: {size}\r\n\r\n"
    return head.encode() + b"x" * size


# --- the server -------------------------------------------------------------------------------------


def zerocopy_receive(connection):
    """Takes whole pages by mapping them, the rest as usual (struct tcp_zerocopy_receive)."""
    length = 1 << 20
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + [ctypes.c_int] * 3 + [ctypes.c_long]
    at = libc.mmap(None, length, mmap.PROT_READ, mmap.MAP_SHARED, connection.fileno(), 0)
    assert at != ctypes.c_void_p(-1).value, "the socket cannot be mapped"
    ask = struct.pack("=QIIIi", at, length, 0, 0, 0)
    size = ctypes.c_uint32(len(ask))
    buffer = ctypes.create_string_buffer(ask, len(ask))
    # IPPROTO_TCP, TCP_ZEROCOPY_RECEIVE
    if libc.getsockopt(connection.fileno(), 6, 35, buffer, ctypes.byref(size)) != 0:
        raise OSError(ctypes.get_errno(), "TCP_ZEROCOPY_RECEIVE")
    _, mapped, skip, _, _ = struct.unpack("=QIIIi", buffer.raw)
    data = ctypes.string_at(at, mapped) if mapped else b""
    return data + (connection.recv(skip) if skip else b"")


def splice_receive(connection):
    reader, writer = os.pipe()
    try:
        count = os.splice(connection.fileno(), writer, 1 << 16)
        return os.read(reader, count) if count else b""
    finally:
        os.close(reader)
        os.close(writer)


def answer(connection, how):
    with connection:
        taken = b""
        while b"\r\n\r\n" not in taken or len(taken) < taken.index(b"\r\n\r\n") + 4 + length_of(taken):
            if how == "splice":
                more = splice_receive(connection)
            elif how == "zerocopy":
                more = zerocopy_receive(connection) or connection.recv(1 << 16)
            elif how == "uring":
                more = Ring().one(IORING_OP_RECV, connection, size=1 << 16)
            else:
                more = connection.recv(1 << 16)
            if not more:
                return
            taken += more
        if how == "uring":
            Ring().one(IORING_OP_SEND, connection, data=ANSWER)
        else:
            connection.sendall(ANSWER)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(4096):
            pass


def length_of(taken):
    for line in taken.split(b"\r\n\r\n")[0].split(b"\r\n"):
        if line.lower().startswith(b"content-length:"):
            return int(line.split(b":")[1])
    return 0


def serve(port, how):
    listeners = []
    for _ in range(2 if how == "reuseport" else 1):
        kind = (socket.AF_INET, socket.SOCK_STREAM, MPTCP) if how == "mptcp" else (socket.AF_INET6,)
        listener = socket.socket(*kind)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if how == "reuseport":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if how == "fastopen":
            listener.setsockopt(socket.IPPROTO_TCP, TCP_FASTOPEN, 16)
        if how == "deferred":
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 5)
        listener.bind(("0.0.0.0" if how == "mptcp" else "::", port))
        listener.listen(64)
        listeners.append(listener)

    def accept(listener):
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=answer, args=(connection, how), daemon=True).start()

    for listener in listeners[1:]:
        threading.Thread(target=accept, args=(listener,), daemon=True).start()
    accept(listeners[0])


# --- io_uring, by hand (include/uapi/linux/io_uring.h) -----------------------------------------------

IORING_OP_SEND, IORING_OP_RECV, IORING_OP_SEND_ZC = 26, 27, 47
IORING_CQE_F_MORE = 2


class Ring:
    def __init__(self):
        parameters = ctypes.create_string_buffer(120)
        self.fd = libc.syscall(425, 4, parameters)
        if self.fd < 0:
            raise OSError(ctypes.get_errno(), "io_uring_setup")
        words = struct.unpack("=30I", parameters.raw)
        self.sq, self.cq = words[10:20], words[20:30]
        entries, cq_entries = words[0], words[1]
        self.rings = [
            mmap.mmap(self.fd, self.sq[6] + entries * 4, offset=0),
            mmap.mmap(self.fd, self.cq[5] + cq_entries * 16, offset=0x8000000),
            mmap.mmap(self.fd, entries * 64, offset=0x10000000),
        ]

    def has(self, operation):
        """Whether the kernel knows it (IORING_REGISTER_PROBE of io_uring_register(2))."""
        probe = ctypes.create_string_buffer(16 + 256 * 8)
        if libc.syscall(427, self.fd, 8, probe, 256) < 0:
            raise OSError(ctypes.get_errno(), "io_uring_register")
        # IO_URING_OP_SUPPORTED
        return struct.unpack_from("=BBHI", probe.raw, 16 + 8 * operation)[2] & 1 != 0

    def one(self, operation, connection, data=b"", size=0):
        """One operation, and its end."""
        buffer = ctypes.create_string_buffer(data, len(data)) if data else ctypes.create_string_buffer(size)
        sq, cq, entries = self.rings
        entry = struct.pack("=BBHiQQIIQ", operation, 0, 0, connection.fileno(), 0, ctypes.addressof(buffer),
                            len(data) or size, 0, 0).ljust(64, b"\0")
        entries[0:64] = entry
        tail = struct.unpack_from("=I", sq, self.sq[1])[0]
        mask = struct.unpack_from("=I", sq, self.sq[2])[0]
        struct.pack_into("=I", sq, self.sq[6] + 4 * (tail & mask), 0)
        struct.pack_into("=I", sq, self.sq[1], tail + 1)
        # One to submit, one to wait for (IORING_ENTER_GETEVENTS).
        if libc.syscall(426, self.fd, 1, 1, 1, None, 0) < 0:
            raise OSError(ctypes.get_errno(), "io_uring_enter")
        _, result, more = struct.unpack_from("=QiI", cq, self.cq[5])
        if more & IORING_CQE_F_MORE and libc.syscall(426, self.fd, 0, 2, 1, None, 0) < 0:
            # The buffer is the kernel's until it says so.
            raise OSError(ctypes.get_errno(), "io_uring_enter")
        ended = struct.unpack_from("=I", cq, self.cq[1])[0]
        struct.pack_into("=I", cq, self.cq[0], ended)
        for ring in self.rings:
            ring.close()
        os.close(self.fd)
        if result < 0:
            raise OSError(-result, "io_uring")
        return buffer.raw[:result] if operation == IORING_OP_RECV else result


# --- the client, with the sockets of the kernel ------------------------------------------------------


def finish(client, sent):
    port = client.getsockname()[1]
    got = 0
    while more := client.recv(1 << 16):
        got += len(more)
    client.close()
    print(json.dumps({"port": port, "sent": sent, "got": got}), flush=True)
    assert got == len(ANSWER), f"{got} bytes of an answer"


def connect(host, port, way):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    if way == "fastopen":
        # The first one gets a cookie, the second sends data in its SYN.
        for last in (False, True):
            client = socket.socket(family)
            client.sendto(request(way), MSG_FASTOPEN, (host, port))
            if not last:
                while client.recv(4096):
                    pass
                client.close()
        info = client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
        # tcpi_options: TCPI_OPT_SYN_DATA, the data in the SYN were acknowledged.
        assert info[5] & 32, "no data in the SYN"
        return finish(client, len(request(way)))
    if way == "simultaneous":
        # Both ends call each other: here one socket itself.
        client = socket.socket(family)
        client.bind((host, port))
        client.connect((host, port))
        client.sendall(request(way))
        got = b""
        while len(got) < len(request(way)):
            got += client.recv(4096)
        client.close()
        print(json.dumps({"port": port, "sent": len(got), "got": len(got)}), flush=True)
        return None
    if way == "eight":
        for _ in range(8):
            client = socket.create_connection((host, port))
            client.sendall(request(way))
            finish(client, len(request(way)))
        return None
    over_mptcp = way in ("mptcp", "subflows")
    client = socket.socket(family, socket.SOCK_STREAM, MPTCP if over_mptcp else 0)
    client.settimeout(30)
    if way == "reused":
        reused(client, host, port)
        return None
    client.connect((host, port))
    if not over_mptcp:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    data = request(way)
    if way == "subflows":
        # Some of the head on the first one; the rest once there is another, and more than one of them takes at once.
        client.sendall(data[:20])
        until = time.monotonic() + 30
        # struct mptcp_info: the first byte is how many there are besides the first one.
        while client.getsockopt(SOL_MPTCP, MPTCP_INFO, 64)[0] == 0:
            assert time.monotonic() < until, "no second subflow"
            time.sleep(0.01)
        data = request(way, 4 << 20)
        client.sendall(data[20:])
        return finish(client, len(data))
    if way == "urgent":
        # Urgent bytes before, within and behind the head.
        client.sendall(data[:9])
        client.send(data[9:10], socket.MSG_OOB)
        client.sendall(data[10:20])
        client.send(data[20:21], socket.MSG_OOB)
        client.sendall(data[21:])
        # Without SO_OOBINLINE they are taken out of the stream: the server reads less, TCP counts all.
        client.sendall(b"Z: z\r\n\r\n")
        sent = len(data) + 8
        return finish(client, sent)
    if way == "zerocopy":
        data = request(way, 1 << 20)
        client.setsockopt(socket.SOL_SOCKET, SO_ZEROCOPY, 1)
        client.settimeout(None)
        view = memoryview(data)
        while view:
            view = view[client.send(view, MSG_ZEROCOPY):]
        return finish(client, len(data))
    if way in ("sendfile", "splice"):
        data = request(way, 1 << 20)
        client.settimeout(None)
        with tempfile.TemporaryFile() as file:
            file.write(data)
            file.flush()
            file.seek(0)
            if way == "sendfile":
                at = 0
                while at < len(data):
                    at += os.sendfile(client.fileno(), file.fileno(), at, len(data) - at)
            else:
                reader, writer = os.pipe()
                while count := os.splice(file.fileno(), writer, 1 << 16):
                    while count:
                        count -= os.splice(reader, client.fileno(), count)
        return finish(client, len(data))
    if way == "uring-zerocopy":
        client.settimeout(None)
        data = request(way, 3000)
        ring = Ring()
        if not ring.has(IORING_OP_SEND_ZC):
            raise SystemExit("this kernel has no IORING_OP_SEND_ZC")
        assert ring.one(IORING_OP_SEND_ZC, client, data=data) == len(data)
        return finish(client, len(data))
    if way == "uring":
        client.settimeout(None)
        assert Ring().one(IORING_OP_SEND, client, data=data) == len(data)
        return finish(client, len(data))
    if way == "passed":
        # Connected here, used by another process.
        ours, theirs = socket.socketpair()
        child = os.fork()
        if child == 0:
            _, descriptors, _, _ = socket.recv_fds(theirs, 1, 1)
            finish_in_child = socket.socket(fileno=descriptors[0])
            finish_in_child.settimeout(30)
            finish_in_child.sendall(data)
            finish(finish_in_child, len(data))
            os._exit(0)
        socket.send_fds(ours, [b"x"], [client.fileno()])
        client.close()
        assert os.waitpid(child, 0)[1] == 0, "the child failed"
        return None
    if way == "padding":
        # Nothing that is known, in front of what is.
        data = b"\0" * 3000 + data
    client.sendall(data)
    return finish(client, len(data))


def reused(client, host, port):
    """One connection after the other with one socket, each of another length."""
    for count in range(6):
        client.connect((host, port))
        data = request("reused", count * 1000)
        client.sendall(data)
        port_here, got = client.getsockname()[1], 0
        while more := client.recv(1 << 16):
            got += len(more)
        print(json.dumps({"port": port_here, "sent": len(data), "got": got}), flush=True)
        # AF_UNSPEC: the socket is no more connected.
        if libc.connect(client.fileno(), ctypes.create_string_buffer(16), 16) != 0:
            raise OSError(ctypes.get_errno(), "connect to nothing")


QUESTIONS = [b"<14>Oct 11 22:14:15 host app: question %d" % n for n in range(8)]


def datagrams(host, port, way):
    """sendmmsg and recvmmsg: several datagrams in one call, to a socket that answers likewise."""
    client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    client.connect((host, port))
    if way == "datagrams-segmented":
        # UDP_SEGMENT: one call, and one packet as far as most of the kernel goes.
        client.setsockopt(socket.IPPROTO_UDP, 103, len(QUESTIONS[0]))
        lengths = [client.send(b"".join(QUESTIONS))]
    elif way == "datagrams-singly":
        lengths = [client.send(question) for question in QUESTIONS]
    else:
        lengths = mmsg(client, 307, QUESTIONS)
    client.settimeout(30)
    got = sum(len(client.recv(4096)) for _ in range(8))
    print(json.dumps({"port": client.getsockname()[1], "sent": sum(lengths), "got": got}), flush=True)


def mmsg(connection, call, buffers):
    """struct mmsghdr: eight messages, one buffer each."""
    kept = [ctypes.create_string_buffer(data, len(data)) for data in buffers]
    vectors = [(ctypes.c_uint64 * 2)(ctypes.addressof(one), len(one)) for one in kept]
    headers = b"".join(
        struct.pack("=QIxxxxQQQQixxxxIxxxx", 0, 0, ctypes.addressof(vector), 1, 0, 0, 0, 0) for vector in vectors
    )
    headers = ctypes.create_string_buffer(headers, len(headers))
    count = libc.syscall(call, connection.fileno(), headers, len(buffers), 0, None)
    if count != len(buffers):
        raise OSError(ctypes.get_errno(), f"{count} messages")
    return [struct.unpack_from("=I", headers, 64 * n + 56)[0] for n in range(count)]


def serve_datagrams(port):
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("0.0.0.0", port))
    _, client = server.recvfrom(4096, socket.MSG_PEEK)
    server.connect(client)
    time.sleep(0.3)
    mmsg(server, 299, [b"." * 64] * 8)
    mmsg(server, 307, [b"answer %d" % n for n in range(8)])
    time.sleep(60)


def crossed(host, port, own_host, own_port, role):
    """Each end calls the other, from the port that the other calls."""
    own = socket.socket(socket.AF_INET)
    own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    own.bind((own_host, own_port))
    own.setblocking(False)
    try:
        own.connect((host, port))
    except BlockingIOError:
        pass
    print(json.dumps({"calls": True}), flush=True)
    select.select([], [own], [], 50)
    failed = own.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    assert failed == 0, os.strerror(failed)
    own.settimeout(50)
    data = request("crossed")
    if role == "asks":
        own.sendall(data)
        finish(own, len(data))
        return
    taken = b""
    while b"\r\n\r\n" not in taken:
        taken += own.recv(4096)
    own.sendall(ANSWER)
    own.shutdown(socket.SHUT_WR)
    while own.recv(4096):
        pass
    print(json.dumps({"port": own_port, "sent": len(ANSWER), "got": len(taken)}), flush=True)


# --- the client, with packets of its own -------------------------------------------------------------

FIN, SYN, RST, PSH, ACK, URG = 1, 2, 4, 8, 16, 32


def checksum(data):
    if len(data) % 2:
        data += b"\0"
    total = sum(array.array("H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return struct.pack("=H", ~total & 0xFFFF)


class Raw:
    """A TCP of its own: from an address that nobody has, so that the kernel does not answer for it."""

    def __init__(self, host, port, number=0):
        self.v6 = ":" in host
        self.family = socket.AF_INET6 if self.v6 else socket.AF_INET
        own = "fd13::63" if self.v6 else "10.213.0.99"
        self.source, self.target = (socket.inet_pton(self.family, one) for one in (own, host))
        self.port, self.server_port = 40_000 + (os.getpid() + number) % 20_000, port
        self.link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        self.link.bind(("link0", 3))
        self.link.settimeout(0.2)
        self.mac = self.link.getsockname()[4]
        self.server_mac = self.find(host)
        self.isn, self.ack, self.stamps = 1000, 0, False
        self.got, self.acked, self.theirs, self.ended = b"", 0, 0, False
        self.headers, self.identification = [], 1
        self.now = 1_000_000

    def find(self, host):
        with socket.socket(self.family, socket.SOCK_DGRAM) as probe:
            probe.sendto(b"", (host, 9))
        for _ in range(100):
            time.sleep(0.05)
            out = os.popen(f"ip neigh show {host}").read().split()
            if "lladdr" in out:
                return bytes.fromhex(out[out.index("lladdr") + 1].replace(":", ""))
        raise SystemExit("the server's link address is not known")

    def segment(self, at, data=b"", flags=ACK, spoil=False, stamp=None, urgent=0):
        """A segment whose first byte has that offset in the stream."""
        options = b""
        if flags & SYN:
            options = b"\x02\x04\x05\xa0" + (b"\x01\x01\x08\x0a" + struct.pack("!II", self.now, 0))
        elif self.stamps:
            self.now += 1
            options = b"\x01\x01\x08\x0a" + struct.pack("!II", stamp or self.now, self.theirs)
        sequence = (self.isn + at + (0 if flags & SYN else 1)) & 0xFFFFFFFF
        head = struct.pack("!HHIIBBHHH", self.port, self.server_port, sequence, self.ack,
                           (5 + len(options) // 4) << 4, flags, 60_000, 0, urgent) + options
        if self.v6:
            pseudo = self.source + self.target + struct.pack("!II", len(head) + len(data), 6)
        else:
            pseudo = self.source + self.target + struct.pack("!HH", 6, len(head) + len(data))
        total = checksum(pseudo + head + data)
        if spoil:
            total = bytes([total[0] ^ 0x5A, total[1]])
        return head[:16] + total + head[18:] + data

    def packet(self, payload, fragment=None, identification=None):
        """An IP packet; of a fragment its offset and whether more follow."""
        if self.v6:
            return self.packet6(payload, fragment, identification)
        self.identification += 1
        at, more = fragment or (0, False)
        head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), identification or self.identification,
                           (0x2000 if more else 0) | at // 8, 64, 6, 0) + self.source + self.target
        return head[:10] + checksum(head) + head[12:] + payload

    def packet6(self, payload, fragment=None, identification=None):
        """Behind the extension headers that are wanted: (number, body without its first byte)."""
        chain, following, headers = b"", 6, list(self.headers)
        if fragment:
            at, more = fragment
            headers.append((44, struct.pack("!xHI", at | more, identification)))
        for number, body in reversed(headers):
            chain = bytes([following]) + body + chain
            following = number
        length = len(chain) + len(payload)
        return struct.pack("!IHBB", 0x60000000, length, following, 64) + self.source + self.target + chain + payload

    def put(self, packet):
        kind = b"\x86\xdd" if self.v6 else b"\x08\x00"
        self.link.send(self.server_mac + self.mac + kind + packet)

    def send(self, at, data=b"", flags=ACK | PSH, **how):
        self.put(self.packet(self.segment(at, data, flags, **how)))

    def take(self, seconds, enough=lambda: False):
        """What the server sends, acknowledged."""
        until = time.monotonic() + seconds
        while time.monotonic() < until and not enough():
            try:
                frame = self.link.recv(65536)
            except TimeoutError:
                continue
            ip = frame[14:]
            if frame[12:14] != (b"\x86\xdd" if self.v6 else b"\x08\x00"):
                continue
            at = 40 if self.v6 else (ip[0] & 15) * 4
            if ip[6 if self.v6 else 9] != 6:
                continue
            end = 40 + struct.unpack("!H", ip[4:6])[0] if self.v6 else struct.unpack("!H", ip[2:4])[0]
            tcp = ip[at:end]
            source, target, sequence, acked = struct.unpack("!HHII", tcp[:12])
            if (source, target) != (self.server_port, self.port):
                continue
            flags, start = tcp[13], (tcp[12] >> 4) * 4
            options = tcp[20:start]
            if b"\x08\x0a" in options:
                self.theirs = struct.unpack_from("!I", options, options.index(b"\x08\x0a") + 2)[0]
            if flags & RST:
                raise SystemExit("reset by the server")
            self.acked = (acked - self.isn - 1) & 0xFFFFFFFF
            if flags & SYN:
                self.ack, self.stamps = (sequence + 1) & 0xFFFFFFFF, b"\x08\x0a" in options
                continue
            data = tcp[start:]
            if sequence == self.ack:
                self.got += data
                self.ack = (self.ack + len(data) + (flags & FIN)) & 0xFFFFFFFF
                self.ended |= bool(flags & FIN)
            if data or flags & FIN:
                self.put(self.packet(self.segment(self.sent, flags=ACK)))

    sent = 0

    def open(self, data=b""):
        for _ in range(20):
            self.put(self.packet(self.segment(0, data, SYN)))
            self.take(1, lambda: self.ack != 0)
            if self.ack:
                self.put(self.packet(self.segment(0, flags=ACK)))
                return
        raise SystemExit("no answer to a SYN")

    def close(self, length):
        """Until everything has come that belongs there; sent again as often as needed."""
        self.sent = length
        self.take(10, lambda: self.ended)
        for _ in range(20):
            self.send(length, flags=FIN | ACK)
            self.take(0.5, lambda: self.acked > length)
            if self.acked > length:
                break
        print(json.dumps({"port": self.port, "sent": length, "got": len(self.got)}), flush=True)
        assert self.got == ANSWER, self.got


class Answering(Raw):
    """The same, as the server of one connection."""

    def accept(self, way):
        caller = self.awaited()
        self.port, (self.server_port, theirs) = self.server_port, caller
        if way == "decoy-answer":
            # It acknowledges what was never sent: the caller resets it, and goes on calling.
            self.isn, self.ack = 0x6000_0000, (theirs + 4711) & 0xFFFFFFFF
            self.put(self.packet(self.segment(0, flags=SYN | ACK)))
        elif way == "data-first":
            self.ack = 0
            self.put(self.packet(self.segment(0, b"x" * 100, flags=PSH)))
        time.sleep(0.1)
        self.isn, self.ack = 1000, (theirs + 1) & 0xFFFFFFFF
        self.put(self.packet(self.segment(0, flags=SYN | ACK)))
        time.sleep(0.1)
        self.link.setblocking(False)
        try:
            while True:
                self.link.recv(65536)
        except BlockingIOError:
            self.link.settimeout(0.2)
        # What came meanwhile comes again.
        self.take(10, lambda: b"\r\n\r\n" in self.got)
        self.send(0, ANSWER)
        self.sent = len(ANSWER)
        self.send(self.sent, flags=FIN | ACK)
        self.sent += 1
        self.take(10, lambda: self.ended)

    def awaited(self):
        while True:
            try:
                frame = self.link.recv(65536)
            except TimeoutError:
                continue
            tcp = frame[34:]
            if frame[12:14] != b"\x08\x00" or frame[23] != 6 or len(tcp) < 20:
                continue
            source, target, sequence = struct.unpack("!HHI", tcp[:8])
            if target == self.server_port and tcp[13] & SYN:
                return source, sequence


def hello(length):
    """What begins like a ClientHello."""
    body = bytes([22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3]) + os.urandom(length)
    return body[:length]


def reset(tcp, data):
    """A FIN with a wrong checksum in the place of the last byte, the byte, and a reset. Of what is short the kernel
    looks at the checksum before our hook does."""
    length, decoy = 150, 100
    tcp.open()
    tcp.send(0, data[:length - 1])
    tcp.send(length - 1 - decoy, data[length - 1 - decoy:length - 1], flags=FIN | ACK, spoil=True)
    tcp.send(length - 1, data[length - 1:length])
    tcp.sent = length
    tcp.take(10, lambda: tcp.acked >= length)
    tcp.send(length, flags=RST | ACK)
    print(json.dumps({"port": tcp.port, "sent": length, "got": 0}), flush=True)


OPTIONS, PADDING = 60, b"\0" + bytes([1, 4, 0, 0, 0, 0])
ROUTE = b"\0" + bytes([0, 0, 0, 0, 0, 0])
ATOMIC = b"\0" + bytes([0, 0, 0, 0, 0, 7])
# Of an association that nobody has, with 12 bytes of a sum; a binding refresh request, which carries nothing else.
AUTHENTICATION = bytes([4, 0, 0, 0, 0, 0x12, 0x34, 0, 0, 0, 1]) + b"\5" * 12
MOBILITY = bytes([0, 0, 0, 0, 0, 0, 0])
USUAL = [(0, PADDING), (OPTIONS, PADDING), (43, ROUTE), (44, ATOMIC)]


def orders(host, port, which):
    """A connection for each order of headers: its request behind them, if the kernel takes that. If not, something
    else behind them, which it does not take either, and then the request as it is."""
    if which == "odd":
        chains = [(51, AUTHENTICATION)], [(135, MOBILITY)]
        chains = [[*USUAL[:at], *odd, *USUAL[at:]] for odd in chains for at in range(len(USUAL) + 1)]
        chains += [[(51, AUTHENTICATION)], [(135, MOBILITY)]]
    else:
        chains = list(itertools.permutations(USUAL))
    for number, chain in enumerate(chains):
        tcp = Raw(host, port, number)
        tcp.open()
        data = request("orders", 120)
        tcp.headers = list(chain)
        tcp.send(0, data[:70])
        tcp.take(0.5, lambda: tcp.acked >= 70)
        if tcp.acked < 70:
            tcp.send(0, hello(70))
            tcp.headers = []
            time.sleep(0.1)
            tcp.send(0, data[:70])
        tcp.send(70, data[70:])
        tcp.headers = []
        tcp.close(len(data))


def raw(host, port, way):
    if way.startswith("orders-"):
        orders(host, port, way.removeprefix("orders-"))
        return
    data = request(way, 1500 if way == "early-often" else 120)
    tcp = Raw(host, port)
    if way == "reset":
        reset(tcp, data)
        return
    if way.startswith("headers-"):
        tcp.headers = {
            "headers-destination": [(OPTIONS, PADDING)] * 8,
            "headers-many": [(OPTIONS, PADDING)] * 140,
            "headers-beyond": [(OPTIONS, PADDING)] * 200,
            "headers-hop": [(0, PADDING), (OPTIONS, PADDING)],
            "headers-route": [(OPTIONS, PADDING), (43, ROUTE), (OPTIONS, PADDING)],
            "headers-atomic": [(44, ATOMIC), (OPTIONS, PADDING)],
            "headers-all": [*USUAL, (OPTIONS, PADDING)],
        }[way]
    if way == "syn-data":
        tcp.open(data[:30])
        tcp.send(0, data)
    else:
        tcp.open()
    if way == "spoiled":
        tcp.send(0, hello(len(data)), spoil=True)
        tcp.send(0, data)
    elif way == "old-stamp":
        assert tcp.stamps, "no timestamps"
        tcp.send(0, hello(len(data)), stamp=1000)
        tcp.send(0, data)
    elif way == "rewritten":
        # The middle comes early and again with other content; last comes what was missing.
        tcp.send(60, data[60:120])
        tcp.send(60, b"y" * 60)
        tcp.send(120, data[120:])
        tcp.send(0, data[:60])
    elif way == "backwards":
        for at in reversed(range(0, len(data), 7)):
            tcp.send(at, data[at:at + 7])
    elif way == "overlapping":
        for at in range(0, len(data), 5):
            tcp.send(at, data[at:at + 20])
    elif way == "taken-again":
        # What was taken already, with other content.
        tcp.send(0, data[:50])
        tcp.take(1, lambda: tcp.acked >= 50)
        tcp.send(0, hello(50))
        tcp.send(50, data[50:])
    elif way == "middle-copy":
        # The kernel takes the second of three copies: before and after it, decoys with a wrong checksum.
        decoy = hello(150)
        tcp.send(0, decoy[:100], spoil=True)
        tcp.send(0, data[:50])
        tcp.send(0, decoy[:100], spoil=True)
        tcp.send(50, data[50:100])
        tcp.send(50, decoy[50:150], spoil=True)
        tcp.send(100, data[100:])
    elif way == "early-middle":
        # The same before the first byte has come: a copy of what waits is thrown away.
        decoy = hello(150)
        tcp.send(1, decoy[1:110], spoil=True)
        tcp.send(1, data[1:110])
        tcp.send(1, decoy[1:110])
        tcp.send(0, data[:1])
        tcp.send(110, data[110:])
    elif way == "early-often":
        for _ in range(40):
            tcp.send(1, data[1:1400])
        tcp.send(0, data[:1])
        tcp.send(1400, data[1400:])
    elif way == "urgent-pointer":
        # A pointer far behind what is sent.
        tcp.send(0, data, flags=ACK | PSH | URG, urgent=5000)
    elif way in ("fragments", "fragments-backwards", "fragments-overlapping"):
        segment = tcp.segment(0, data, ACK | PSH)
        pieces = [(at, segment[at:at + 24], at + 24 < len(segment)) for at in range(0, len(segment), 24)]
        if way == "fragments-backwards":
            pieces.reverse()
        if way == "fragments-overlapping":
            # Such a datagram is thrown away whole; then it is sent as it should be.
            wrong = tcp.segment(0, hello(len(data)), ACK | PSH)
            for at, piece, more in [(0, wrong[:48], True), (24, segment[24:72], True), (72, segment[72:], False)]:
                tcp.put(tcp.packet(piece, (at, more), 777))
            time.sleep(0.2)
            tcp.send(0, data)
        else:
            for at, piece, more in pieces:
                tcp.put(tcp.packet(piece, (at, more), 778))
    elif way.startswith("headers-") or way == "undisturbed":
        tcp.send(0, data[:70])
        tcp.send(70, data[70:])
    elif way != "syn-data":
        raise SystemExit(f"no such way: {way}")
    tcp.close(len(data))


def main():
    verb = sys.argv[1]
    if verb == "serve":
        how = sys.argv[3] if len(sys.argv) > 3 else ""
        if how == "datagrams":
            serve_datagrams(int(sys.argv[2]))
        else:
            serve(int(sys.argv[2]), how)
    else:
        host, port, way = sys.argv[2], int(sys.argv[3]), sys.argv[4]
        if verb == "crossed":
            crossed(host, port, sys.argv[4], int(sys.argv[5]), sys.argv[6])
            return
        if verb == "answer":
            print("ready", flush=True)
            Answering(host, port).accept(way)
            return
        call = raw if verb == "raw" else datagrams if way.startswith("datagrams") else connect
        call(host, port, way)


main()
