"""Logs in once. Usage: log_in.py amqp|nats|smtp|imap|pop3|ssh HOST PORT USER, with PASSWORD in the environment; ends with 1 when refused"""

import asyncio
import imaplib
import os
import poplib
import smtplib
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


def ssh():
    client = paramiko.SSHClient()
    client.set_missing_host_key_policy(paramiko.AutoAddPolicy())
    client.connect(host, port, user, password, allow_agent=False, look_for_keys=False, timeout=20)
    client.exec_command("true")[1].read()
    client.close()


try:
    {"amqp": amqp, "nats": over_nats, "smtp": smtp, "imap": imap, "pop3": pop3, "ssh": ssh}[what]()
except Exception as error:
    print(repr(error), file=sys.stderr)
    sys.exit(1)
