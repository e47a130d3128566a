"""One HTTP connection for all requests. Usage: long_session.py HOST PORT USER FLOOD LATER, with the
passwords RIGHT and WRONG in the environment.

Asks FLOOD times as fast as it can with the right password; waits; then LATER times, one after the
other, with the wrong one. Ends with 1 if the connection was not the same all the time, or an answer was
not the expected one."""

import base64
import http.client
import os
import sys
import time

host, port, user = sys.argv[1], int(sys.argv[2]), sys.argv[3]
flood, later = int(sys.argv[4]), int(sys.argv[5])
right, wrong = os.environ["RIGHT"], os.environ["WRONG"]
connection = http.client.HTTPConnection(host, port, timeout=20)
connection.connect()
socket = connection.sock


def ask(password, expected):
    value = base64.b64encode(f"{user}:{password}".encode()).decode()
    connection.request("GET", "/index.html", headers={"Authorization": f"Basic {value}"})
    answer = connection.getresponse()
    answer.read()
    if answer.status != expected or connection.sock is not socket:
        sys.exit(f"{answer.status}, expected {expected}; same connection: {connection.sock is socket}")


for _ in range(flood):
    ask(right, 200)
print("flood done", flush=True)
# The sample after a flood takes a few seconds to be asked for; then each failure counts.
for _ in range(later):
    time.sleep(1)
    ask(wrong, 401)
