"""The side that tests hold: plain HTTP and JSON. README.md lists the calls."""

from __future__ import annotations

import json

from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound
from werkzeug.wrappers import Request, Response

from . import policy
from .world import BadRequest, Fault, World


def _need(given: dict, *names: str) -> list:
    missing = [n for n in names if not given.get(n)]
    if missing:
        raise BadRequest(f"missing: {', '.join(missing)}")
    return [given[n] for n in names]


def _known(given: dict, *names: str) -> None:
    if unknown := sorted(set(given) - set(names)):
        raise BadRequest(f"unknown: {', '.join(unknown)}; known: {', '.join(names)}")


class Control:
    """A WSGI application that changes and shows the World."""

    def __init__(self, world: World):
        self.world = world

    def __call__(self, environ, start_response):
        request = Request(environ)
        try:
            text = request.get_data(as_text=True)
            given = json.loads(text) if text.strip() else {}
            if not isinstance(given, dict):
                raise BadRequest("the body must be a JSON object")
            response = self._answer(request.method, request.path.strip("/").split("/"), given)
            status = 200
        except HTTPException as error:
            response, status = {"error": error.description}, error.code
        except (ValueError, TypeError, policy.PolicyError) as error:
            response, status = {"error": str(error)}, 400
        body = json.dumps(response, indent=None)
        return Response(body, status=status, content_type="application/json")(environ, start_response)

    def _answer(self, method: str, path: list[str], given: dict):
        if len(path) == 2 and path[0] == "keys" and method == "DELETE":
            return self._forget_key(path[1])
        calls = {
            "keys": {"POST": self._add_key},
            "roles": {"POST": self._add_role},
            "issuers": {"POST": self._add_issuer},
            "associations": {"POST": self._associate},
            "node": {"POST": self._set_node},
            "node/rotate": {"POST": self._rotate_node},
            "life": {"POST": self._set_life},
            "faults": {"POST": self._add_fault, "DELETE": self._clear_faults},
            "calls": {"GET": lambda _: self.world.calls, "DELETE": self._forget_calls},
            "minted": {"GET": lambda _: self.world.minted},
            "reset": {"POST": self._reset},
        }.get("/".join(path))
        if calls is None:
            raise NotFound(f"no such call: /{'/'.join(path)}")
        if method not in calls:
            raise MethodNotAllowed(list(calls))
        with self.world.lock:
            answer = calls[method](given)
            return {"ok": True} if answer is None else list(answer) if isinstance(answer, list) else answer

    def _add_key(self, given: dict):
        _known(given, "accessKeyId", "secretAccessKey", "sessionToken", "principal", "policies")
        key_id, secret, arn = _need(given, "accessKeyId", "secretAccessKey", "principal")
        self.world.add_key(key_id, secret, given.get("sessionToken"), arn, given.get("policies"))

    def _forget_key(self, key_id: str):
        with self.world.lock:
            if self.world.keys.pop(key_id, None) is None:
                raise NotFound(f"no such key: {key_id}")
        return {"ok": True}

    def _add_role(self, given: dict):
        _known(given, "roleArn", "trust", "policies", "maxSessionDuration")
        arn, trust = _need(given, "roleArn", "trust")
        self.world.add_role(arn, trust, given.get("policies"), int(given.get("maxSessionDuration", 3600)))

    def _add_issuer(self, given: dict):
        _known(given, "issuer", "audiences", "jwks", "jwksFile", "jwksUrl", "caFile")
        (issuer,) = _need(given, "issuer")
        if sum(name in given for name in ("jwks", "jwksFile", "jwksUrl")) != 1:
            raise BadRequest("exactly one of jwks, jwksFile, jwksUrl")
        self.world.issuers[issuer] = {"audiences": ["sts.amazonaws.com"], **given}

    def _associate(self, given: dict):
        _known(given, "namespace", "serviceAccount", "roleArn")
        namespace, account, arn = _need(given, "namespace", "serviceAccount", "roleArn")
        self._role(arn)
        self.world.associations[(namespace, account)] = arn

    def _set_node(self, given: dict):
        _known(given, "roleArn", "region", "instanceId", "seconds", "renewBefore")
        (arn,) = _need(given, "roleArn")
        self._role(arn)
        defaults = {"region": "eu-west-1", "instanceId": "i-0123456789abcdef0", "seconds": 6 * 3600, "renewBefore": 300}
        self.world.node, self.world.node_session = {**defaults, **given}, None

    def _rotate_node(self, _given: dict):
        self.world.node_session = None

    def _set_life(self, given: dict):
        _known(given, "seconds", "principal", "sessionSeconds", "capToSession")
        lives = self.world.lives
        if "seconds" in given and "principal" in given:
            lives.by_principal[given["principal"]] = float(given["seconds"])
        elif "seconds" in given:
            lives.token = float(given["seconds"])
        if "sessionSeconds" in given:
            lives.session = None if given["sessionSeconds"] is None else float(given["sessionSeconds"])
        lives.cap_to_session = bool(given.get("capToSession", lives.cap_to_session))

    def _add_fault(self, given: dict):
        _known(given, "operation", "principal", "count", "delayMs", "status", "code", "message", "body", "contentType")
        (operation,) = _need(given, "operation")
        if "status" not in given and "delayMs" not in given:
            raise BadRequest("a fault needs status, delayMs or both")
        self.world.faults.append(
            Fault(
                operation=operation,
                principal=given.get("principal"),
                count=int(given.get("count", 1)),
                delay=float(given.get("delayMs", 0)) / 1000,
                status=int(given["status"]) if "status" in given else None,
                code=given.get("code", "ServerException"),
                message=given.get("message", "fault set by a test"),
                body=given.get("body"),
                content_type=given.get("contentType", "text/html"),
            )
        )

    def _clear_faults(self, _given: dict):
        self.world.faults.clear()
        self.world.wake()

    def _forget_calls(self, _given: dict):
        self.world.calls.clear()

    def _reset(self, _given: dict):
        self.world.reset()

    def _role(self, arn: str) -> None:
        if arn not in self.world.roles:
            raise BadRequest(f"no such role: {arn}; add it with POST /roles first")
