"""Ends of UDP flows: `ends.py WHAT HERE PORT THERE PORT`, addresses first of who runs it.

server    answers
client    asks four times
once      asks once, and ends
false     asks all the time with an address that a device of its own has, in a user and network namespace of its own
freebind  asks all the time with an address that nobody here has
hidden    the same from a namespace that only the socket keeps
joined    client and server in two network namespaces of one user namespace"""

import ctypes
import os
import socket
import subprocess
import sys
import time

NEWNET = 0x40000000
IPV6_FREEBIND = 78
LIBC = ctypes.CDLL(None, use_errno=True)


def ip(*arguments):
    subprocess.run(["ip", *arguments], check=True)


def bound(address, binds_freely=False):
    end = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET, socket.SOCK_DGRAM)
    if binds_freely:
        end.setsockopt(socket.IPPROTO_IPV6, IPV6_FREEBIND, 1)
    end.bind(address)
    return end


def unshare():
    if LIBC.unshare(NEWNET):
        sys.exit("no network namespace may be made here")


def serve(here):
    end = bound(here)
    print("ready", flush=True)
    while True:
        _, sender = end.recvfrom(100)
        end.sendto(b"an answer in words\n", sender)


def ask(here, there, times, pause):
    end = bound(here)
    end.settimeout(10)
    for _ in range(times):
        end.sendto(b"a question in words\n", there)
        end.recv(100)
        time.sleep(pause)


def take_address(here, there):
    ip("link", "add", "d0", "type", "veth", "peer", "name", "d1")
    ip("link", "set", "d1", "up")
    ip("link", "set", "d0", "up")
    ip("address", "add", here + "/32", "dev", "d0")
    ip("route", "add", there + "/32", "dev", "d0", "src", here)
    ip("neighbour", "add", there, "lladdr", "02:00:00:00:00:01", "dev", "d0")


def speak(here, there, how):
    if how != "freebind":
        take_address(here[0], there[0])
    end = bound(here, how == "freebind")
    if how == "hidden":
        unshare()
    for at in range(300):
        end.sendto(b"false\n", there)
        if at == 0:
            print("ready", flush=True)
        time.sleep(0.1)


def join(here, there):
    ready, made = os.pipe()
    go, linked = os.pipe()
    child = os.fork()
    if child == 0:
        unshare()
        os.write(made, b"y")
        os.read(go, 1)
        ip("link", "set", "v1", "up")
        ip("address", "add", there[0] + "/24", "dev", "v1")
        serve(there)
    os.read(ready, 1)
    ip("link", "add", "v0", "type", "veth", "peer", "name", "v1", "netns", str(child))
    ip("link", "set", "v0", "up")
    ip("address", "add", here[0] + "/24", "dev", "v0")
    os.write(linked, b"y")
    time.sleep(2)
    ask(here, there, 4, 0.5)
    os.kill(child, 15)
    os.wait()


what, *numbers = sys.argv[1:]
own, other = (numbers[0], int(numbers[1])), (numbers[2], int(numbers[3]))
if what == "server":
    serve(own)
elif what == "client":
    ask(own, other, 4, 0.5)
elif what == "once":
    ask(own, other, 1, 0)
elif what == "joined":
    join(own, other)
else:
    speak(own, other, what)
