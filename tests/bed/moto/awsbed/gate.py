"""The TLS side: authenticates and authorises each request, runs faults, then lets moto answer."""

from __future__ import annotations

import json
import sys
import traceback
from urllib.parse import parse_qs

from moto.ecr.models import ecr_backends
from werkzeug.wrappers import Response

from . import sigv4
from .errors import JSON, AwsError, refuse
from .services import SERVICES, STS_OPERATIONS, WsgiRequest
from .world import Principal, World, utcnow

# Operations that nobody signs, operations that need no permission, and what else an operation asks for.
UNSIGNED = {("sts", "AssumeRoleWithWebIdentity")}
NO_PERMISSION = {("sts", "GetCallerIdentity"), ("sts", "AssumeRole"), ("sts", "AssumeRoleWithWebIdentity")}
ALSO_NEEDS = {("ecr-public", "GetAuthorizationToken"): ["sts:GetServiceBearerToken"]}
# https://docs.aws.amazon.com/general/latest/gr/ecr-public.html
PUBLIC_REGIONS = {"us-east-1", "us-west-2"}


class Gate:
    """A WSGI application; one for all AWS services."""

    def __init__(self, world: World):
        self.world = world

    def __call__(self, environ, start_response):
        request = WsgiRequest(environ)
        body = request.get_data(cache=True)
        service, operation = _operation(request, body)
        scope = sigv4.parse(request.headers.get("Authorization", ""))
        key = self.world.key(scope.key) if scope else None
        principal = key.principal.arn if key else None
        response = self._faulty(service, operation, principal) or self._answer(request, body, service, operation, scope)
        who = environ.get("awsbed.principal")
        region = scope.region if scope else None
        self.world.note(service or "?", operation or "?", who.arn if who else principal, region, response.status_code)
        return response(environ, start_response)

    def _faulty(self, service: str | None, operation: str | None, principal: str | None) -> Response | None:
        fault = self.world.fault(operation or "", principal)
        if fault is None or fault.status is None:
            return None
        if fault.body is not None:
            return Response(fault.body, status=fault.status, content_type=fault.content_type)
        return AwsError(_protocol(service), fault.code, fault.status, fault.message).as_response()

    def _answer(self, request, body: bytes, service, operation, scope) -> Response:
        protocol = _protocol(service)
        try:
            if service is None or operation is None:
                raise refuse(protocol, "unknown-operation", "this endpoint answers ECR, ECR Public and STS only")
            if service == "sts" and operation not in STS_OPERATIONS:
                raise refuse(protocol, "unknown-operation", f"Could not find operation {operation} for version 2011-06-15")
            if (service, operation) not in UNSIGNED:
                principal = self._authenticate(request, body, service, scope)
                account = self._authorise(principal, service, operation, body, scope.region)
                request.environ["awsbed.principal"] = principal
                request.environ["awsbed.region"] = scope.region
                request.environ["HTTP_X_MOTO_ACCOUNT_ID"] = account
            request.environ["awsbed.world"] = self.world
            status, headers, text = SERVICES[service][2].dispatch(request, request.raw_url, request.headers)
            return Response(text, status=int(status), headers={k: str(v) for k, v in headers.items() if k != "status"})
        except AwsError as error:
            return error.as_response()
        except Exception as error:  # a bug of this double must not look like an answer of AWS
            traceback.print_exc(file=sys.stderr)
            return AwsError(protocol, "TestBedFailure", 500, f"the test bed's AWS failed: {error!r}").as_response()

    def _authenticate(self, request, body: bytes, service: str, scope: sigv4.Scope | None) -> Principal:
        protocol = _protocol(service)
        if "Authorization" not in request.headers:
            raise refuse(protocol, "missing-token", "Request is missing Authentication Token")
        if scope is None:
            raise refuse(protocol, "incomplete-signature", "Authorization header requires 'Credential', 'SignedHeaders' and 'Signature' parameters.")
        if scope.service != service:
            raise refuse(protocol, "bad-signature", f"Credential should be scoped to correct service: '{service}'.")
        if service == "ecr-public" and scope.region not in PUBLIC_REGIONS:
            raise refuse(protocol, "bad-signature", f"Credential should be scoped to a valid region, not '{scope.region}'.")
        key = self.world.key(scope.key)
        headers = {name.lower(): value for name, value in request.headers.items()}
        if key is None or headers.get("x-amz-security-token") != key.token:
            raise refuse(protocol, "unknown-key", "The security token included in the request is invalid.")
        if problem := sigv4.problem(scope, key.secret, request.method, request.raw_url, headers, body, utcnow()):
            raise refuse(protocol, "bad-signature", problem)
        if key.principal.expires and key.principal.expires <= utcnow():
            raise refuse(protocol, "expired-token", "The security token included in the request is expired")
        return key.principal

    def _authorise(self, principal: Principal, service: str, operation: str, body: bytes, region: str) -> str:
        """Refuses what no policy allows; the account that is asked about."""
        if (service, operation) in NO_PERMISSION:
            return principal.account
        account, resource, of_resource = principal.account, "*", []
        if service == "ecr" and (name := (given := json.loads(body or b"{}")).get("repositoryName")):
            account = given.get("registryId") or principal.account
            resource = f"arn:{principal.partition}:ecr:{region}:{account}:repository/{name}"
            of_resource = _policies(account, region, name)
        for action in [f"{service}:{operation}", *ALSO_NEEDS.get((service, operation), [])]:
            if not principal.may_use(action, resource, account, of_resource):
                message = f"User: {principal.arn} is not authorized to perform: {action} on resource: {resource} because no identity-based policy allows the {action} action"
                raise refuse(_protocol(service), "access-denied", message)
        return account


def _policies(account: str, region: str, name: str) -> list[dict]:
    """The policies of a repository and of its registry, as moto keeps them."""
    registry = ecr_backends[account][region]
    repository = registry.repositories.get(name)
    texts = [registry.registry_policy, repository.policy if repository else None]
    return [json.loads(text) for text in texts if text]


def _protocol(service: str | None) -> str:
    return SERVICES[service][0] if service in SERVICES else JSON


def _operation(request, body: bytes) -> tuple[str | None, str | None]:
    """(service, operation) from what the request asks for, not from what it is signed for."""
    target = request.headers.get("X-Amz-Target")
    if target:
        prefix, _, operation = target.rpartition(".")
        service = next((name for name, (_, p, _) in SERVICES.items() if p == prefix), None)
        return service, operation or None
    form = parse_qs(body.decode("utf-8", "replace"))
    if form.get("Version") == ["2011-06-15"] and form.get("Action"):
        return "sts", form["Action"][0]
    return None, None
