"""Sends a mail. Usage: smtp_client.py HOST PORT [starttls]"""

import smtplib
import ssl
import sys

with smtplib.SMTP(sys.argv[1], int(sys.argv[2]), local_hostname="localhost", timeout=15) as client:
    if sys.argv[3:]:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        client.starttls(context=context)
    client.sendmail("a@example.test", ["b@example.test"], "Subject: hello\n\nhello\n")
