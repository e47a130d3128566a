"""A TLS client of BoringSSL (curl_cffi), for the tests.

Lines on stdin: PORT 1.2|1.3 CERTIFICATE KEY, the last two "-" for none; a fifth word: the browser whose hello
it sends, whatever the version. An answer each:
ok and what the server said, or what failed.
"""

import sys

from curl_cffi import CurlOpt, requests

SSLVERSION = {"1.2": 6 | 6 << 16, "1.3": 7 | 7 << 16}

for line in sys.stdin:
    port, version, certificate, key, *browser = line.split()
    pair = None if certificate == "-" else (certificate, key)
    try:
        with requests.Session(
            verify=False,
            impersonate=browser[0] if browser else None,
            curl_options={} if browser else {CurlOpt.SSLVERSION: SSLVERSION[version]},
        ) as session:
            answer = session.get(f"https://127.0.0.1:{port}/", cert=pair, timeout=20)
        print("ok", repr(answer.text), flush=True)
    except Exception as error:
        print("failed:", str(error).replace("\n", " "), flush=True)
