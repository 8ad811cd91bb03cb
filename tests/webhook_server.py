"""A server that a webhook is told alarms at: it checks each signature by Python's own hmac, answers, and
appends one line of JSON for each request to a file. Every third request is turned away with 503.

    python3 webhook_server.py <port> <file> <secret>
"""

import hmac
import json
import sys
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

port, path, secret = int(sys.argv[1]), sys.argv[2], sys.argv[3].encode()
requests = 0


class Hook(BaseHTTPRequestHandler):
    def do_POST(self):
        global requests
        requests += 1
        body = self.rfile.read(int(self.headers["Content-Length"]))
        moment, signature = (part.split("=")[1] for part in self.headers["Evenkeel-Signature"].split(","))
        expected = hmac.new(secret, moment.encode() + b"." + body, "sha256").hexdigest()
        genuine = hmac.compare_digest(expected, signature) and abs(time.time() - int(moment)) < 60
        taken = requests % 3 != 0
        with open(path, "a") as file:
            told = {
                "genuine": genuine,
                "taken": taken,
                "delivery": self.headers["Evenkeel-Delivery"],
                "token": self.headers.get("Authorization"),
                "body": json.loads(body),
            }
            file.write(json.dumps(told) + "\n")
        self.send_response(204 if taken else 503)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


HTTPServer(("127.0.0.1", port), Hook).serve_forever()
