"""Does one thing. Usage: roles_client.py amqp|grpc|nats|postgresql|mysql|redis HOST PORT WHAT [WORD…]

grpc METHOD; amqp publish EXCHANGE KEY, copy QUEUE QUEUE, consume QUEUE, declare QUEUE, exchange NAME;
nats publish|subscribe SUBJECT;
postgresql and mysql run WHAT as a prepared statement of the server; redis sends all as one pipeline, a
command a word. Connections stay for half a second, so that who holds them can be looked at.
"""

import asyncio
import sys
import time

what, host, port, words = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4:]


def amqp():
    import pika

    connection = pika.BlockingConnection(pika.ConnectionParameters(host, port))
    channel = connection.channel()
    match words:
        case ["publish", exchange, key]:
            channel.basic_publish(exchange, key, b"7.50 EUR")
        case ["copy", queue, other]:
            # Each is a queue of its own: "Sender-selected Distribution".
            channel.basic_publish("", queue, b"7.50 EUR", pika.BasicProperties(headers={"CC": [other]}))
        case ["consume", queue]:
            channel.basic_consume(queue, lambda *_: None, auto_ack=True)
        case ["declare", queue]:
            channel.queue_declare(queue)
        case ["exchange", name]:
            channel.exchange_declare(name)
    connection.sleep(0.5)
    connection.close()


def over_grpc():
    import grpc

    with grpc.insecure_channel(f"{host}:{port}") as channel:
        try:
            channel.unary_unary(words[0])(b"7.50 EUR", timeout=15)
        except grpc.RpcError as error:
            # Of a method that the server does not have.
            if error.code() != grpc.StatusCode.UNIMPLEMENTED:
                raise
        time.sleep(0.5)


def over_nats():
    import nats

    async def talk():
        client = await nats.connect(f"nats://{host}:{port}", allow_reconnect=False, connect_timeout=15)
        match words:
            case ["publish", subject]:
                await client.publish(subject, b"7.50 EUR")
            case ["subscribe", subject]:
                await client.subscribe(subject)
            case ["request", subject]:
                # Nobody answers: that there is an inbox of its own for it is what counts.
                try:
                    await client.request(subject, b"7.50 EUR", timeout=1)
                except nats.errors.Error:
                    pass
        await client.flush()
        await asyncio.sleep(0.5)
        await client.close()

    asyncio.run(talk())


def postgresql():
    import pg8000.native

    connection = pg8000.native.Connection("postgres", host=host, port=port, database="postgres")
    connection.run(words[0], a=1)
    time.sleep(0.5)
    connection.close()


def mysql():
    import mysql.connector

    # What MariaDB knows.
    connection = mysql.connector.connect(
        host=host, port=port, user="test", database="shop", use_pure=True, ssl_disabled=True,
        charset="utf8mb4", collation="utf8mb4_general_ci",
    )
    cursor = connection.cursor(prepared=True)
    cursor.execute(words[0], (1,))
    if cursor.with_rows:
        cursor.fetchall()
    time.sleep(0.5)
    connection.close()


def over_redis():
    import redis

    connection = redis.Redis(host, port)
    pipeline = connection.pipeline(transaction=False)
    for word in words:
        pipeline.execute_command(*word.split())
    pipeline.execute(raise_on_error=False)
    time.sleep(0.5)
    connection.close()


{"amqp": amqp, "grpc": over_grpc, "nats": over_nats, "postgresql": postgresql, "mysql": mysql, "redis": over_redis}[what]()
