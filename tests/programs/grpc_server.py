"""A gRPC service with one unary method that echoes. Usage: grpc_server.py PORT [CERTIFICATE KEY]"""

import sys
from concurrent.futures import ThreadPoolExecutor

import grpc

port, tls = sys.argv[1], sys.argv[2:]
echo = grpc.unary_unary_rpc_method_handler(lambda request, context: request)
server = grpc.server(ThreadPoolExecutor(2))
server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Echo", {"Say": echo}),))
if tls:
    certificate, key = (open(path, "rb").read() for path in tls)
    server.add_secure_port(f"[::]:{port}", grpc.ssl_server_credentials([(key, certificate)]))
else:
    server.add_insecure_port(f"[::]:{port}")
server.start()
server.wait_for_termination()
