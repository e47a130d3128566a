"""Takes mail and forgets it. Usage: smtp_server.py PORT [CERTIFICATE KEY] (with them: STARTTLS)"""

import asyncio
import ssl
import sys

from aiosmtpd.handlers import Sink
from aiosmtpd.smtp import SMTP

port, tls = int(sys.argv[1]), sys.argv[2:]
context = None
if tls:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*tls)


async def main():
    loop = asyncio.get_running_loop()
    # No host: every address, IPv4 and IPv6.
    await loop.create_server(lambda: SMTP(Sink(), tls_context=context, hostname="localhost"), None, port)
    await asyncio.Future()


asyncio.run(main())
