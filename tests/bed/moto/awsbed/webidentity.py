"""Web identity tokens: verified as STS and the EKS Pod Identity agent verify them.

Signature against the issuer's JWKS, issuer, audience, expiry
(https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRoleWithWebIdentity.html).
"""

from __future__ import annotations

import json
import ssl
import time
import urllib.error
import urllib.request

from joserfc import jws, jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

ALGORITHMS = ["RS256", "RS384", "RS512", "ES256", "ES384", "ES512"]


class TokenRefused(Exception):
    """Why a token is refused: STS error code, HTTP status, message."""

    def __init__(self, code: str, status: int, message: str):
        super().__init__(message)
        self.code, self.status, self.message = code, status, message


def unverified_claims(token: str) -> dict:
    """The claims as written, to find the issuer."""
    try:
        claims = json.loads(jws.extract_compact(token.encode()).payload)
        if isinstance(claims, dict):
            return claims
    except (JoseError, ValueError):
        pass
    raise TokenRefused("InvalidIdentityToken", 400, "The ID Token provided is not a valid JWT. (You may see this error if you sent an Access Token)")


def _key_set(issuer: dict) -> KeySet:
    try:
        if "jwks" in issuer:
            return KeySet.import_key_set(issuer["jwks"])
        if "jwksFile" in issuer:
            with open(issuer["jwksFile"], encoding="utf-8") as file:
                return KeySet.import_key_set(json.load(file))
        context = ssl.create_default_context(cafile=issuer.get("caFile"))
        context = context if issuer["jwksUrl"].startswith("https:") else None
        with urllib.request.urlopen(issuer["jwksUrl"], timeout=5, context=context) as answer:
            return KeySet.import_key_set(json.load(answer))
    except (OSError, urllib.error.URLError) as error:
        raise TokenRefused("IDPCommunicationError", 400, f"Couldn't reach the identity provider: {error}") from error
    except (JoseError, ValueError, KeyError) as error:
        raise TokenRefused(
            "InvalidIdentityToken", 400, f"Couldn't retrieve verification key from your identity provider, please reference AssumeRoleWithWebIdentity documentation for requirements: {error}"
        ) from error


def verify(token: str, issuers: dict[str, dict], audiences: list[str] | None = None) -> dict:
    """The claims of a token that holds, else TokenRefused. `audiences` beats those of the issuer."""
    issuer_url = unverified_claims(token).get("iss")
    issuer = issuers.get(issuer_url)
    if issuer is None:
        raise TokenRefused("InvalidIdentityToken", 400, f"No OpenIDConnect provider found in your account for {issuer_url}")
    try:
        claims = jwt.decode(token, _key_set(issuer), algorithms=ALGORITHMS).claims
    except (JoseError, ValueError) as error:
        raise TokenRefused("InvalidIdentityToken", 400, f"Couldn't verify the token's signature: {error}") from error
    now = time.time()
    if not isinstance(claims.get("exp"), (int, float)) or not isinstance(claims.get("sub"), str):
        raise TokenRefused("InvalidIdentityToken", 400, "Missing a required claim: exp, sub")
    if claims["exp"] <= now:
        raise TokenRefused("ExpiredTokenException", 400, f"Token expired: current date/time {int(now)} must be before the expiration date/time {int(claims['exp'])}")
    if claims.get("nbf", 0) > now + 5:
        raise TokenRefused("InvalidIdentityToken", 400, "Token is not yet valid")
    held = claims.get("aud", [])
    held = held if isinstance(held, list) else [held]
    if not set(held) & set(audiences or issuer["audiences"]):
        raise TokenRefused("InvalidIdentityToken", 400, "Incorrect token audience")
    return claims
