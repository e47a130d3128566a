"""A server whose sockets are used by another process than the one that made them. Says the pid that
serves. Usage: handing_server.py PORT passed|forked

passed: the listening socket is made here and handed to a child, as a service manager does; we keep it.
forked: we accept, and a child of ours serves the connection."""

import os
import socket
import subprocess
import sys
import time

port, way = int(sys.argv[1]), sys.argv[2]
SERVE = """
import os, socket, sys
listener = socket.socket(fileno=int(sys.argv[1]))
print(os.getpid(), flush=True)
while True:
    connection, _ = listener.accept()
    while data := connection.recv(4096):
        connection.sendall(data)
    connection.close()
"""

listener = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind(("::", port))
listener.listen()
if way == "passed":
    command = [sys.executable, "-c", SERVE, str(listener.fileno())]
    subprocess.run(command, pass_fds=[listener.fileno()], check=False)
    sys.exit()
connection, _ = listener.accept()
if os.fork() == 0:
    listener.close()
    print(os.getpid(), flush=True)
    while data := connection.recv(4096):
        connection.sendall(data)
        # Long enough to be looked at.
        time.sleep(0.5)
    os._exit(0)
connection.close()
os.wait()
