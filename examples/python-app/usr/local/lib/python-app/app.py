import hmac
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

credentials = Path(os.environ["CREDENTIALS_DIRECTORY"])

# The previous token is accepted too: clients do not rotate in the same second.
accepted = [
    b"Bearer " + (credentials / id).read_bytes()
    for id in ("python-token", "python-token.previous")
]


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        given = self.headers.get("Authorization", "").encode()
        known = any(hmac.compare_digest(given, one) for one in accepted)
        self.send_response(200 if known else 401)
        self.end_headers()


ThreadingHTTPServer(("localhost", 8084), Handler).serve_forever()
