"""Writes what is posted to it into a file, a line each. Usage: webhook_server.py PORT CERTIFICATE KEY FILE"""

import http.server
import ssl
import sys

port, certificate, key, path = int(sys.argv[1]), *sys.argv[2:5]


class Hook(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with open(path, "ab") as file:
            file.write(body)
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass


context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(certificate, key)
server = http.server.HTTPServer(("127.0.0.1", port), Hook)
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
