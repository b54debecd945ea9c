"""Verification of AWS Signature Version 4, with botocore's own canonical form.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
"""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

# AWS accepts a request for 5 minutes around its time stamp (15 for some services).
SKEW = timedelta(minutes=5)

_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256\s+Credential=(?P<key>[^/,\s]+)/(?P<date>\d{8})/(?P<region>[^/,\s]+)/(?P<service>[^/,\s]+)/aws4_request"
    r"\s*,\s*SignedHeaders=(?P<headers>[^,\s]+)\s*,\s*Signature=(?P<signature>[0-9a-f]{64})"
)


@dataclass(frozen=True)
class Scope:
    """What an Authorization header claims."""

    key: str
    date: str
    region: str
    service: str
    headers: tuple[str, ...]
    signature: str


def parse(authorization: str) -> Scope | None:
    """The claims of an Authorization header, None when it is not a complete SigV4 one."""
    found = _AUTHORIZATION.fullmatch(authorization.strip())
    if not found:
        return None
    return Scope(
        found["key"], found["date"], found["region"], found["service"], tuple(found["headers"].split(";")), found["signature"]
    )


def problem(scope: Scope, secret: str, method: str, url: str, headers: dict[str, str], body: bytes, now: datetime) -> str | None:
    """Why the signature does not hold, in AWS's words; None when it does.

    `headers` have lower-case names. `url` is scheme, host, raw path and query.
    """
    stamp = headers.get("x-amz-date", "")
    try:
        at = datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        return "Date must be in ISO-8601 'basic format' in the header x-amz-date"
    if stamp[:8] != scope.date:
        return f"Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '{scope.date}' != '{stamp[:8]}'"
    if at + SKEW < now:
        return f"Signature expired: {stamp} is now earlier than {now - SKEW:%Y%m%dT%H%M%SZ} ({now:%Y%m%dT%H%M%SZ} - 5 min.)"
    if at - SKEW > now:
        return f"Signature not yet current: {stamp} is still later than {now + SKEW:%Y%m%dT%H%M%SZ} ({now:%Y%m%dT%H%M%SZ} + 5 min.)"
    for needed in ("host", "x-amz-date", "x-amz-target", "x-amz-security-token"):
        if (needed == "host" or needed in headers) and needed not in scope.headers:
            return f"'{needed}' must be a 'SignedHeader' in the AWS Authorization."
    digest = headers.get("x-amz-content-sha256")
    if digest is not None and digest != hashlib.sha256(body).hexdigest():
        return "The provided 'x-amz-content-sha256' header does not match what was computed."
    request = AWSRequest(method, url, {name: headers[name] for name in scope.headers if name in headers}, body)
    if digest is not None and "x-amz-content-sha256" not in scope.headers:
        request.headers["X-Amz-Content-SHA256"] = digest
    request.context["timestamp"] = stamp
    signer = SigV4Auth(Credentials(scope.key, secret), scope.service, scope.region)
    expected = signer.signature(signer.string_to_sign(request, signer.canonical_request(request)), request)
    if not hmac.compare_digest(expected, scope.signature):
        return (
            "The request signature we calculated does not match the signature you provided. "
            "Check your AWS Secret Access Key and signing method. Consult the service documentation for details."
        )
    return None
