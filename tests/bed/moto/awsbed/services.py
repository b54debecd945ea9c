"""moto's ECR, ECR Public and STS with the operations patched that moto answers in ways no AWS does.

moto 5.2.5: ECR tokens expire in 2015 and are the same for everyone, ECR Public has no backend, STS hands
out sessions for any role and any token string.
"""

from __future__ import annotations

import json
import re

from moto.core.request import Request
from moto.core.responses import ActionResult, BaseResponse
from moto.ecr.responses import ECRResponse
from moto.sts.responses import TokenResponse

from . import policy, webidentity
from .errors import JSON, QUERY, AwsError, refuse
from .world import Principal, Role, World

DOMAINS = {"aws": "amazonaws.com", "aws-us-gov": "amazonaws.com", "aws-cn": "amazonaws.com.cn"}
SESSION_NAME = re.compile(r"[\w+=,.@-]{2,64}")
# STS operations of the bed; the rest of STS is refused by the gate.
STS_OPERATIONS = {"AssumeRole", "AssumeRoleWithWebIdentity", "GetCallerIdentity"}


class WsgiRequest(Request):
    """moto's request, as it arrives through a WSGI server."""

    from_wsgi_server = True


class _Bound:
    """What the gate found out about the request, for the operations below."""

    normalized_request: Request

    @property
    def world(self) -> World:
        return self.normalized_request.environ["awsbed.world"]

    @property
    def principal(self) -> Principal:
        return self.normalized_request.environ["awsbed.principal"]

    @property
    def signing_region(self) -> str:
        return self.normalized_request.environ["awsbed.region"]


def _may_assume(caller: Principal, role: Role, context: dict[str, str]) -> bool:
    """Trust and identity policies together.

    A trust policy that names the caller itself is enough in its own account; naming the account's root
    leaves it to the caller's own policies; across accounts both must allow.
    https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic-cross-account.html
    """
    root = [f"arn:{caller.partition}:iam::{caller.account}:root", caller.account]
    if policy.decide_trust(role.trust, "sts:AssumeRole", "AWS", [*caller.names, *root], context) != policy.ALLOW:
        return False
    named = policy.decide_trust(role.trust, "sts:AssumeRole", "AWS", list(caller.names), context) == policy.ALLOW
    return (named and role.account == caller.account) or caller.may("sts:AssumeRole", role.arn)


class Ecr(_Bound, ECRResponse):
    """Private ECR: moto's, but for the token."""

    def get_authorization_token(self) -> ActionResult:
        """https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_GetAuthorizationToken.html"""
        token, expires = self.world.mint(self.principal, self.signing_region, public=False)
        domain = DOMAINS.get(self.principal.partition, "amazonaws.com")
        return ActionResult(
            {
                "authorizationData": [
                    {
                        "authorizationToken": token,
                        "expiresAt": expires,
                        "proxyEndpoint": f"https://{registry}.dkr.ecr.{self.signing_region}.{domain}",
                    }
                    for registry in self._get_param("registryIds") or [self.principal.account]
                ]
            }
        )


class EcrPublic(_Bound, BaseResponse):
    """ECR Public, which moto does not have: the token only."""

    def __init__(self) -> None:
        super().__init__(service_name="ecr-public")
        self.automated_parameter_parsing = True

    def get_authorization_token(self) -> ActionResult:
        """https://docs.aws.amazon.com/AmazonECRPublic/latest/APIReference/API_GetAuthorizationToken.html"""
        token, expires = self.world.mint(self.principal, self.signing_region, public=True)
        return ActionResult({"authorizationData": {"authorizationToken": token, "expiresAt": expires}})


class Sts(_Bound, TokenResponse):
    """STS: moto's wire form, our decisions."""

    def get_caller_identity(self) -> ActionResult:
        """https://docs.aws.amazon.com/STS/latest/APIReference/API_GetCallerIdentity.html"""
        who = self.principal
        return ActionResult({"UserId": who.user_id, "Account": who.account, "Arn": who.arn})

    def assume_role(self) -> ActionResult:
        """https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html"""
        caller, arn, name = self.principal, self._required("RoleArn"), self._session_name()
        role = self.world.roles.get(arn)
        context = {"aws:PrincipalArn": caller.names[0], "aws:PrincipalAccount": caller.account, "sts:RoleSessionName": name}
        if external_id := self._get_param("ExternalId"):
            context["sts:ExternalId"] = external_id
        if role is None or not _may_assume(caller, role, context):
            raise refuse(QUERY, "access-denied", f"User: {caller.arn} is not authorized to perform: sts:AssumeRole on resource: {arn}")
        return self._session(role, name, chained=caller.expires is not None, extra={})

    def assume_role_with_web_identity(self) -> ActionResult:
        """https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRoleWithWebIdentity.html"""
        arn, name, token = self._required("RoleArn"), self._session_name(), self._required("WebIdentityToken")
        try:
            claims = webidentity.verify(token, self.world.issuers)
        except webidentity.TokenRefused as error:
            raise AwsError(QUERY, error.code, error.status, error.message) from error
        role, host = self.world.roles.get(arn), claims["iss"].removeprefix("https://")
        audience = claims["aud"] if isinstance(claims["aud"], str) else claims["aud"][0]
        context = {f"{host}:sub": claims["sub"], f"{host}:aud": audience, "sts:RoleSessionName": name}
        provider = f"arn:{role.partition}:iam::{role.account}:oidc-provider/{host}" if role else ""
        if role is None or policy.decide_trust(
            role.trust, "sts:AssumeRoleWithWebIdentity", "Federated", [provider], context
        ) != policy.ALLOW:
            raise refuse(QUERY, "access-denied", "Not authorized to perform sts:AssumeRoleWithWebIdentity")
        extra = {"SubjectFromWebIdentityToken": claims["sub"], "Audience": audience, "Provider": provider}
        return self._session(role, name, chained=False, extra=extra)

    def _required(self, name: str) -> str:
        value = self._get_param(name)
        if not value:
            raise refuse(QUERY, "validation", f"1 validation error detected: Value null at '{name[0].lower()}{name[1:]}' failed to satisfy constraint: Member must not be null")
        return value

    def _session_name(self) -> str:
        name = self._required("RoleSessionName")
        if not SESSION_NAME.fullmatch(name):
            raise refuse(QUERY, "validation", f"1 validation error detected: Value '{name}' at 'roleSessionName' failed to satisfy constraint: Member must satisfy regular expression pattern: [\\w+=,.@-]*")
        return name

    def _session(self, role: Role, name: str, chained: bool, extra: dict) -> ActionResult:
        seconds = int(self._get_param("DurationSeconds") or 3600)
        if seconds < 900 or seconds > role.max_session:
            raise refuse(QUERY, "validation", "The requested DurationSeconds exceeds the MaxSessionDuration set for this role." if seconds > 900 else "1 validation error detected: Value at 'durationSeconds' failed to satisfy constraint: Member must have value greater than or equal to 900")
        if chained and seconds > 3600:
            raise refuse(QUERY, "validation", "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining")
        key, expires = self.world.open_session(role, name, seconds, self._session_policies())
        credentials = {"AccessKeyId": key.id, "SecretAccessKey": key.secret, "SessionToken": key.token, "Expiration": expires}
        who = {"AssumedRoleId": key.principal.user_id, "Arn": key.principal.arn}
        return ActionResult({"Credentials": credentials, "AssumedRoleUser": who, "PackedPolicySize": 6, **extra})

    def _session_policies(self) -> tuple[dict, ...]:
        if self._get_param("PolicyArns"):
            raise AwsError(QUERY, "MalformedPolicyDocument", 400, "the test bed knows no managed policies: pass the policy itself")
        text = self._get_param("Policy")
        if not text:
            return ()
        try:
            document = json.loads(text)
            policy.statements(document)
        except (ValueError, AttributeError) as error:
            raise AwsError(QUERY, "MalformedPolicyDocument", 400, f"The policy is not in the valid JSON format: {error}") from error
        return (document,)


# Signing name of a service: its protocol, the target prefix of its operations, what answers.
SERVICES = {
    "ecr": (JSON, "AmazonEC2ContainerRegistry_V20150921", Ecr),
    "ecr-public": (JSON, "SpencerFrontendService", EcrPublic),
    "sts": (QUERY, None, Sts),
}
