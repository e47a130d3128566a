"""A client of BoringSSL whose hello is a browser's, made-up ECH extension and all (curl_cffi), for the tests.

Usage: encrypted_hello.py ADDRESS PORT NAME; prints what the server said.
"""

import sys

from curl_cffi import CurlOpt, requests

address, port, name = sys.argv[1:]
options = {CurlOpt.RESOLVE: [f"{name}:{port}:{address}"]}
with requests.Session(verify=False, impersonate="chrome", curl_options=options) as session:
    print(session.get(f"https://{name}:{port}/", timeout=20).text)
