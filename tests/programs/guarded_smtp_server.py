"""Takes mail from those who log in, and forgets it. Usage: guarded_smtp_server.py PORT, with PASSWORD in the environment"""

import asyncio
import os
import sys

from aiosmtpd.handlers import Sink
from aiosmtpd.smtp import SMTP, AuthResult

port, password = int(sys.argv[1]), os.environ["PASSWORD"].encode()


def check(server, session, envelope, mechanism, data):
    # Not handled here: the server answers 535.
    return AuthResult(success=data.password == password, handled=False)


def serve():
    return SMTP(Sink(), hostname="localhost", authenticator=check, auth_required=True, auth_require_tls=False)


async def main():
    await asyncio.get_running_loop().create_server(serve, None, port)
    await asyncio.Future()


asyncio.run(main())
