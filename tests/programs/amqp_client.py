"""Publishes a message. Usage: amqp_client.py HOST PORT [tls]"""

import ssl
import sys

import pika

context = None
if sys.argv[3:]:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
options = pika.SSLOptions(context) if context else None
connection = pika.BlockingConnection(
    pika.ConnectionParameters(sys.argv[1], int(sys.argv[2]), ssl_options=options, socket_timeout=15)
)
channel = connection.channel()
channel.queue_declare("hello")
channel.basic_publish("", "hello", b"hello")
connection.close()
