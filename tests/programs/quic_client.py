"""Sends a line over a QUIC stream and reads it back. Usage: quic_client.py HOST PORT AUTHORITY [v2]"""

import asyncio
import sys

from aioquic.asyncio import connect
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.packet import QuicProtocolVersion


async def main():
    host, port, authority = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    configuration = QuicConfiguration(is_client=True, alpn_protocols=["echo"], server_name="localhost")
    if "v2" in sys.argv[4:]:
        configuration.supported_versions = [QuicProtocolVersion.VERSION_2]
        configuration.original_version = QuicProtocolVersion.VERSION_2
    configuration.load_verify_locations(authority)
    # aioquic's socket is an IPv6 one, so that IPv4 goes through v4-mapped addresses.
    async with connect(host, port, configuration=configuration) as client:
        reader, writer = await client.create_stream()
        writer.write(b"hello")
        writer.write_eof()
        assert await reader.read() == b"hello"


asyncio.run(asyncio.wait_for(main(), 15))
