"""Stores a value and reads it back. Usage: memcached_client.py HOST PORT"""

import sys

from pymemcache.client.base import Client

client = Client((sys.argv[1], int(sys.argv[2])), timeout=15)
client.set("hello", "hello")
assert client.get("hello") == b"hello"
client.close()
