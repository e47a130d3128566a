"""Logs in once. Usage: log_in.py amqp|nats|smtp|imap|imap-late|pop3|pop3-late|http-late|ssh HOST PORT USER, with PASSWORD in the environment; ends with 1 when refused"""

import asyncio
import base64
import imaplib
import os
import poplib
import smtplib
import socket
import sys

import nats
import paramiko
import pika

what, host, port, user = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
password = os.environ["PASSWORD"]


def amqp():
    credentials = pika.PlainCredentials(user, password)
    pika.BlockingConnection(pika.ConnectionParameters(host, port, credentials=credentials)).close()


def over_nats():
    async def log_in():
        options = {"allow_reconnect": False, "max_reconnect_attempts": 0, "connect_timeout": 10}
        client = await nats.connect(f"nats://{host}:{port}", user=user, password=password, **options)
        await client.publish("payments.in", b"x")
        await client.flush()
        await client.close()

    asyncio.run(log_in())


def smtp():
    client = smtplib.SMTP(host, port)
    client.login(user, password)
    client.sendmail("a@example.org", ["b@example.org"], "Subject: x\n\nbody")
    client.quit()


def imap():
    client = imaplib.IMAP4(host, port)
    client.login(user, password)
    client.logout()


def pop3():
    client = poplib.POP3(host, port)
    client.user(user)
    client.pass_(password)
    client.quit()


def in_turns(begins, *turns):
    """Lines, each answered by lines up to one that begins so: the last with a word that lets in"""
    with socket.create_connection((host, port), timeout=20) as connection, connection.makefile("rwb") as lines:
        if begins:
            lines.readline()
        for said, ends in turns:
            lines.write(said.encode())
            lines.flush()
            answer = lines.readline()
            while answer and not answer.startswith(ends):
                answer = lines.readline()
        if not any(word in answer for word in (b"OK", b" 200 ")):
            raise RuntimeError(answer)


def imap_late():
    """Behind a line that is no command"""
    in_turns(True, ("FOO\r\n", (b"FOO", b"* BAD")), (f"a1 LOGIN {user} {password}\r\n", b"a1 "))


def pop3_late():
    turns = [("FOO\r\n", b"-ERR"), (f"USER {user}\r\n", b"+OK"), (f"PASS {password}\r\n", (b"+OK", b"-ERR"))]
    in_turns(True, *turns)


def http_late():
    """Behind an empty line"""
    pair = base64.b64encode(f"{user}:{password}".encode()).decode()
    head = f"\r\nGET /index.html HTTP/1.1\r\nHost: {host}\r\nAuthorization: Basic {pair}\r\n\r\n"
    in_turns(False, (head, b"HTTP/1.1"))


def ssh():
    client = paramiko.SSHClient()
    client.set_missing_host_key_policy(paramiko.AutoAddPolicy())
    client.connect(host, port, user, password, allow_agent=False, look_for_keys=False, timeout=20)
    client.exec_command("true")[1].read()
    client.close()


try:
    by_name = {"amqp": amqp, "nats": over_nats, "smtp": smtp, "imap": imap, "pop3": pop3, "ssh": ssh}
    by_name |= {"imap-late": imap_late, "pop3-late": pop3_late, "http-late": http_late}
    by_name[what]()
except Exception as error:
    print(repr(error), file=sys.stderr)
    sys.exit(1)
