"""Starts the AWS double: AWS's API behind TLS, the control side, the Pod Identity agent and IMDS.

Writes {"url","control","agent","imds"} to the file --ready when all four listen; ends on SIGTERM.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import socket
import ssl
import sys
import threading

from werkzeug.serving import ThreadedWSGIServer, WSGIRequestHandler

from awsbed.agent import Imds, PodIdentityAgent
from awsbed.control import Control
from awsbed.gate import Gate
from awsbed.world import World


class Handler(WSGIRequestHandler):
    """Keeps connections, as AWS does, and lets an idle or silent one go."""

    protocol_version = "HTTP/1.1"
    timeout = 75

    def log(self, kind: str, message: str, *args) -> None:
        logging.getLogger("access").info("%s %s", kind, message % args)

    def log_request(self, code="-", size="-") -> None:
        logging.getLogger("access").info("%s %s %s", self.server.name, self.requestline, code)


class Server(ThreadedWSGIServer):
    """One listener in a thread of its own; the TLS handshake runs in the connection's thread, so that a silent client stops nobody."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, name: str, host: str, port: int, app, context: ssl.SSLContext | None = None):
        self.name = name
        super().__init__(host, port, app, Handler)
        scheme = "http"
        if context is not None:
            scheme = "https"
            self.ssl_context = context
            self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        shown = f"[{host}]" if ":" in host else host
        self.url = f"{scheme}://{shown}:{self.server_port}"

    def server_bind(self) -> None:
        super().server_bind()
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def handle_error(self, request, client_address) -> None:
        logging.getLogger("access").info("%s connection from %s ended: %r", self.name, client_address, sys.exc_info()[1])

    def start(self) -> None:
        threading.Thread(target=self.serve_forever, name=self.name, daemon=True).start()


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cert", required=True, help="PEM file: the serving certificate and its chain")
    parser.add_argument("--key", required=True, help="PEM file: its private key")
    parser.add_argument("--listen", default="127.0.0.1", help="address of AWS's API (default: 127.0.0.1)")
    parser.add_argument("--local", default="127.0.0.1", help="address of the control side, the agent and IMDS (default: 127.0.0.1)")
    parser.add_argument("--ready", required=True, help="JSON file to write the URLs to, in one step, when all listen")
    parser.add_argument("--port", type=int, default=0, help="port of AWS's API (default: any free one)")
    return parser.parse_args()


def main() -> None:
    given = arguments()
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(given.cert, given.key)
    world = World()
    servers = {
        "url": Server("aws", given.listen, given.port, Gate(world), context),
        "control": Server("control", given.local, 0, Control(world)),
        "agent": Server("agent", given.local, 0, PodIdentityAgent(world)),
        "imds": Server("imds", given.local, 0, Imds(world)),
    }
    # Blocked before any thread starts, so that it reaches sigwait and nobody else.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    for server in servers.values():
        server.start()
    with open(given.ready + ".new", "w", encoding="utf-8") as file:
        json.dump({name: server.url for name, server in servers.items()}, file)
    os.replace(given.ready + ".new", given.ready)
    signal.sigwait({signal.SIGTERM, signal.SIGINT})


if __name__ == "__main__":
    main()
