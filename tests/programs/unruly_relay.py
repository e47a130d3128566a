"""Carries packets between two TUN devices, drops some and lets some overtake others.

Usage: unruly_relay.py LEFT RIGHT. Makes the devices (which the caller may then move to another
network namespace) and runs until it is killed. Seeded: the choices are the same every time.
"""

import fcntl
import heapq
import os
import random
import select
import struct
import sys
import time

# include/uapi/linux/if_tun.h
TUNSETIFF = 0x400454CA
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000

DROPPED = 0.01
HELD_BACK = 0.03
# Longer than a few packets take, so that they overtake the one held back.
HOLD = (0.0002, 0.003)


def device(name):
    descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(descriptor, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TUN | IFF_NO_PI))
    return descriptor


def send(descriptor, packet):
    try:
        os.write(descriptor, packet)
    except OSError:
        pass  # The device is down or full: one more packet that is lost.


def main():
    choice = random.Random(1)
    left, right = device(sys.argv[1]), device(sys.argv[2])
    other = {left: right, right: left}
    held = []
    while True:
        patience = max(0.0, held[0][0] - time.monotonic()) if held else None
        readable, _, _ = select.select([left, right], [], [], patience)
        for descriptor in readable:
            for _ in range(64):
                try:
                    packet = os.read(descriptor, 65536)
                except OSError:
                    break
                fate = choice.random()
                if fate < DROPPED:
                    continue
                if fate < DROPPED + HELD_BACK:
                    due = time.monotonic() + choice.uniform(*HOLD)
                    heapq.heappush(held, (due, choice.random(), other[descriptor], packet))
                else:
                    send(other[descriptor], packet)
        while held and held[0][0] <= time.monotonic():
            _, _, descriptor, packet = heapq.heappop(held)
            send(descriptor, packet)


main()
