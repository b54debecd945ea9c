"""Where workloads and nodes fetch credentials without keys: the EKS Pod Identity agent and IMDSv2. Plain HTTP."""

from __future__ import annotations

import json
import secrets
import time
from datetime import UTC

from werkzeug.wrappers import Request, Response

from . import policy, webidentity
from .world import Key, World, utcnow

AUDIENCE = SERVICE = "pods.eks.amazonaws.com"
SESSION_SECONDS = 6 * 3600
NAMESPACE_SUBJECT = "system:serviceaccount:"
# The cluster whose agent this is: one of the session tags, https://docs.aws.amazon.com/eks/latest/userguide/pod-id-abac.html
CLUSTER = "arn:aws:eks:eu-west-1:123456789012:cluster/bed"


def _json(value: dict, status: int = 200) -> Response:
    return Response(json.dumps(value), status=status, content_type="application/json")


def _stamp(at) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _credentials(key: Key, expires) -> dict:
    return {"AccessKeyId": key.id, "SecretAccessKey": key.secret, "Token": key.token, "Expiration": _stamp(expires)}


class PodIdentityAgent:
    """`GET /v1/credentials`: the Authorization header is the ServiceAccount token.

    https://docs.aws.amazon.com/eks/latest/userguide/pod-id-how-it-works.html
    """

    def __init__(self, world: World):
        self.world = world

    def __call__(self, environ, start_response):
        request = Request(environ)
        fault = self.world.fault("AgentCredentials", None)
        if fault and fault.status is not None:
            response, who = Response(fault.body or fault.message, status=fault.status), None
        else:
            response, who = self._answer(request)
        self.world.note("agent", "AgentCredentials", who, None, response.status_code)
        return response(environ, start_response)

    def _answer(self, request) -> tuple[Response, str | None]:
        if request.path != "/v1/credentials" or request.method != "GET":
            return Response("404 page not found\n", status=404), None
        token = request.headers.get("Authorization", "")
        if not token:
            return Response("unable to get token from request: no Authorization header\n", status=400), None
        try:
            claims = webidentity.verify(token, self.world.issuers, [AUDIENCE])
        except webidentity.TokenRefused as error:
            return Response(f"({error.code}): {error.message}, fault: client\n", status=400), None
        namespace, _, account = claims["sub"].removeprefix(NAMESPACE_SUBJECT).partition(":")
        role = self.world.roles.get(self.world.associations.get((namespace, account), ""))
        if role is None:
            return Response(f"(ResourceNotFoundException): no association for {namespace}/{account}, fault: client\n", status=404), None
        tags = {
            "aws:RequestTag/eks-cluster-arn": CLUSTER,
            "aws:RequestTag/kubernetes-namespace": namespace,
            "aws:RequestTag/kubernetes-service-account": account,
        }
        if any(policy.decide_trust(role.trust, action, "Service", [SERVICE], tags) != policy.ALLOW for action in ("sts:AssumeRole", "sts:TagSession")):
            why = "Unauthorized Exception! EKS does not have permissions to assume the associated role."
            return Response(f"(AccessDeniedException): {why}, fault: client\n", status=400), None
        key, expires = self.world.open_session(role, f"eks-{namespace}-{account}-{secrets.token_hex(4)}"[:64], SESSION_SECONDS)
        return _json({**_credentials(key, expires), "AccountId": role.account}), key.principal.arn


class Imds:
    """Instance metadata, version 2 only: a session token first, then the node role's credentials.

    https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/configuring-instance-metadata-service.html
    """

    def __init__(self, world: World):
        self.world = world
        self.tokens: dict[str, float] = {}

    def __call__(self, environ, start_response):
        request = Request(environ)
        operation = "ImdsToken" if request.path == "/latest/api/token" else "ImdsMetadata"
        fault = self.world.fault(operation, None)
        if fault and fault.status is not None:
            response, who = Response(fault.body or fault.message, status=fault.status), None
        else:
            response, who = self._answer(request)
        self.world.note("imds", operation, who, None, response.status_code)
        return response(environ, start_response)

    def _answer(self, request) -> tuple[Response, str | None]:
        if request.path == "/latest/api/token":
            return self._token(request), None
        if self.tokens.get(request.headers.get("X-aws-ec2-metadata-token", ""), 0) <= time.monotonic():
            return Response("Unauthorized", status=401), None
        node = self.world.node_credentials()
        if node is None:
            return Response("Not Found", status=404), None
        key, expires, settings = node
        role = settings["roleArn"].rsplit("/", 1)[1]
        path = request.path.removeprefix("/latest/meta-data/").rstrip("/")
        plain = {
            "iam/security-credentials": role,
            "placement/region": settings["region"],
            "placement/availability-zone": settings["region"] + "a",
            "instance-id": settings["instanceId"],
        }
        if path in plain:
            return Response(plain[path], content_type="text/plain"), None
        if path == f"iam/security-credentials/{role}":
            answer = {"Code": "Success", "LastUpdated": _stamp(utcnow()), "Type": "AWS-HMAC", **_credentials(key, expires)}
            return _json(answer), key.principal.arn
        return Response("Not Found", status=404), None

    def _token(self, request) -> Response:
        if request.method != "PUT":
            return Response("Method Not Allowed", status=405)
        try:
            seconds = int(request.headers["X-aws-ec2-metadata-token-ttl-seconds"])
        except (KeyError, ValueError):
            return Response("Bad Request", status=400)
        if not 1 <= seconds <= 21600:
            return Response("Bad Request", status=400)
        token = secrets.token_urlsafe(40)
        self.tokens[token] = time.monotonic() + seconds
        headers = {"X-aws-ec2-metadata-token-ttl-seconds": str(seconds)}
        return Response(token, headers=headers, content_type="text/plain")
