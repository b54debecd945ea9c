"""AWS error answers in the wire form of each protocol.

JSON 1.1 (ECR, ECR Public): https://smithy.io/2.0/aws/protocols/aws-json-1_1-protocol.html
Query (STS): https://smithy.io/2.0/aws/protocols/aws-query-protocol.html
Common codes: https://docs.aws.amazon.com/AmazonECR/latest/APIReference/CommonErrors.html and
https://docs.aws.amazon.com/STS/latest/APIReference/CommonErrors.html
"""

from __future__ import annotations

import json
import uuid
from xml.sax.saxutils import escape

from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response

JSON = "json"
QUERY = "query"

# What went wrong: (code, HTTP status) as the JSON services say it, then as STS says it.
CODES = {
    "missing-token": {JSON: ("MissingAuthenticationTokenException", 400), QUERY: ("MissingAuthenticationToken", 403)},
    "incomplete-signature": {JSON: ("IncompleteSignatureException", 400), QUERY: ("IncompleteSignature", 400)},
    "unknown-key": {JSON: ("UnrecognizedClientException", 400), QUERY: ("InvalidClientTokenId", 403)},
    "bad-signature": {JSON: ("InvalidSignatureException", 400), QUERY: ("SignatureDoesNotMatch", 403)},
    "expired-token": {JSON: ("ExpiredTokenException", 400), QUERY: ("ExpiredToken", 403)},
    "access-denied": {JSON: ("AccessDeniedException", 400), QUERY: ("AccessDenied", 403)},
    "unknown-operation": {JSON: ("UnknownOperationException", 400), QUERY: ("InvalidAction", 400)},
    "validation": {JSON: ("InvalidParameterException", 400), QUERY: ("ValidationError", 400)},
}


class AwsError(HTTPException):
    """An answer that AWS gives instead of a result; moto passes an HTTPException through unchanged."""

    def __init__(self, protocol: str, code: str, status: int, message: str):
        super().__init__()
        self.code = status
        self.aws_code = code
        self.description, self.content_type = render(protocol, code, status, message)

    def get_headers(self, *_args, **_kwargs):
        return [("Content-Type", self.content_type), ("x-amzn-RequestId", str(uuid.uuid4()))]

    def as_response(self) -> Response:
        """The finished HTTP answer."""
        return Response(self.description, status=self.code, headers=self.get_headers())


def refuse(protocol: str, what: str, message: str) -> AwsError:
    """The error for one of the common reasons in CODES."""
    code, status = CODES[what][protocol]
    return AwsError(protocol, code, status, message)


def render(protocol: str, code: str, status: int, message: str) -> tuple[str, str]:
    """Body and content type of an error."""
    if protocol == JSON:
        return json.dumps({"__type": code, "message": message}), "application/x-amz-json-1.1"
    kind = "Receiver" if status >= 500 else "Sender"
    return (
        '<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error>'
        f"<Type>{kind}</Type><Code>{escape(code)}</Code><Message>{escape(message)}</Message>"
        f"</Error><RequestId>{uuid.uuid4()}</RequestId></ErrorResponse>",
        "text/xml",
    )
