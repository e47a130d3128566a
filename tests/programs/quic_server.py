"""Echoes QUIC streams. Usage: quic_server.py PORT CERTIFICATE KEY [retry]"""

import asyncio
import sys

from aioquic.asyncio import serve
from aioquic.quic.configuration import QuicConfiguration


async def echo(reader, writer):
    writer.write(await reader.read())
    writer.write_eof()


async def main():
    configuration = QuicConfiguration(is_client=False, alpn_protocols=["echo", "h3"])
    configuration.load_cert_chain(sys.argv[2], sys.argv[3])
    await serve(
        "::",
        int(sys.argv[1]),
        configuration=configuration,
        retry="retry" in sys.argv[4:],
        stream_handler=lambda reader, writer: asyncio.ensure_future(echo(reader, writer)),
    )
    await asyncio.Future()


asyncio.run(main())
