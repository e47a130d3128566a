"""Logs in with a key and runs `true`. Usage: ssh_client.py HOST PORT KEY"""

import sys

import paramiko

transport = paramiko.Transport((sys.argv[1], int(sys.argv[2])))
options = transport.get_security_options()
# A MAC over the ciphertext leaves the lengths of packets in the clear.
options.ciphers = ("aes128-ctr",)
options.digests = ("hmac-sha2-256-etm@openssh.com",)
try:
    transport.start_client(timeout=15)
    transport.auth_publickey("root", paramiko.Ed25519Key(filename=sys.argv[3]))
    channel = transport.open_session(timeout=15)
    channel.exec_command("true")
    assert channel.recv_exit_status() == 0
finally:
    transport.close()
