"""Publishes a message. Usage: nats_client.py HOST PORT [tls]"""

import asyncio
import ssl
import sys

import nats


async def main():
    host, port = sys.argv[1], sys.argv[2]
    host = f"[{host}]" if ":" in host else host
    options = {}
    if sys.argv[3:]:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        options = {"tls": context, "tls_hostname": "localhost"}
    scheme = "tls" if options else "nats"
    client = await nats.connect(f"{scheme}://{host}:{port}", allow_reconnect=False, connect_timeout=15, **options)
    await client.publish("hello", b"hello")
    await client.flush()
    await client.close()


asyncio.run(main())
