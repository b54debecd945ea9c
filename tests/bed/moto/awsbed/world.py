"""All that this AWS knows: keys, roles, sessions, issuers, lives, faults; and what it has seen.

One lock guards it; every method is short. Times are aware datetimes in UTC, lives are seconds.
"""

from __future__ import annotations

import base64
import re
import secrets
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from . import policy

# ECR's documented life of a token (https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_AuthorizationData.html).
DEFAULT_LIFE = 12 * 3600
# What a principal may do when the test does not say: everything a puller needs.
PULLER = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Action": [
                "ecr:GetAuthorizationToken",
                "ecr-public:GetAuthorizationToken",
                "sts:GetServiceBearerToken",
                "sts:AssumeRole",
            ],
            "Resource": "*",
        }
    ],
}
_ARN = re.compile(r"arn:(?P<partition>aws[\w-]*):(?P<service>iam|sts)::(?P<account>\d{12}):(?P<rest>.+)")


class BadRequest(ValueError):
    """A control request that makes no sense; the message says why."""


def utcnow() -> datetime:
    """The time now, aware, UTC."""
    return datetime.now(UTC)


@dataclass(frozen=True)
class Principal:
    """Who signed a request."""

    arn: str
    # ARNs by which a trust policy may name it: its own, its role's, its account's root.
    names: tuple[str, ...]
    account: str
    partition: str
    user_id: str
    policies: tuple[dict, ...]
    session_policies: tuple[dict, ...] = ()
    expires: datetime | None = None

    @property
    def context(self) -> dict[str, str]:
        """What conditions see of who asks."""
        return {"aws:PrincipalArn": self.names[0], "aws:PrincipalAccount": self.account}

    def may(self, action: str, resource: str) -> bool:
        """Whether identity policies, cut by session policies, allow it."""
        return self._session_may(action, resource) and policy.decide(list(self.policies), action, resource, self.context) == policy.ALLOW

    def may_use(self, action: str, resource: str, account: str, of_resource: list[dict]) -> bool:
        """Whether that and the policies of a resource of `account` do: within one account either of them is enough, else both must.

        https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic-cross-account.html
        """
        own = policy.decide(list(self.policies), action, resource, self.context)
        theirs = policy.decide_resource(of_resource, action, resource, list(self.names), self.context)
        if policy.DENY in (own, theirs) or not self._session_may(action, resource):
            return False
        return policy.ALLOW in (own, theirs) if account == self.account else own == theirs == policy.ALLOW

    def _session_may(self, action: str, resource: str) -> bool:
        return not self.session_policies or policy.decide(list(self.session_policies), action, resource, self.context) == policy.ALLOW


@dataclass(frozen=True)
class Key:
    """One access key and whose it is."""

    id: str
    secret: str
    token: str | None
    principal: Principal


@dataclass(frozen=True)
class Role:
    """An IAM role."""

    arn: str
    account: str
    partition: str
    name: str
    id: str
    trust: dict
    policies: tuple[dict, ...]
    max_session: int


@dataclass
class Fault:
    """What happens to the next `count` calls of an operation."""

    operation: str
    principal: str | None
    count: int
    delay: float
    status: int | None
    code: str
    message: str
    body: str | None
    content_type: str


@dataclass
class Lives:
    """How long what is handed out lives, in seconds."""

    token: float = DEFAULT_LIFE
    by_principal: dict[str, float] = field(default_factory=dict)
    session: float | None = None
    cap_to_session: bool = False


def parse_arn(arn: str) -> tuple[str, str, str]:
    """(partition, account, rest) of an IAM or STS ARN."""
    found = _ARN.fullmatch(arn)
    if not found:
        raise BadRequest(f"{arn!r} is not an IAM or STS ARN such as arn:aws:iam::123456789012:user/ci")
    return found["partition"], found["account"], found["rest"]


def documents(given, default: list[dict]) -> tuple[dict, ...]:
    """Policy documents of a control request, checked."""
    found = default if given is None else given
    if not isinstance(found, list) or not all(isinstance(d, dict) for d in found):
        raise BadRequest("policies must be a list of policy documents")
    for document in found:
        policy.statements(document)
    return tuple(found)


class World:
    """The state of the double; see the module."""

    def __init__(self):
        self.lock = threading.RLock()
        self.changed = threading.Event()
        self.reset()

    def reset(self) -> None:
        """Forget everything, wake whoever hangs in a fault."""
        with self.lock:
            self.keys: dict[str, Key] = {}
            self.roles: dict[str, Role] = {}
            self.issuers: dict[str, dict] = {}
            self.associations: dict[tuple[str, str], str] = {}
            self.node: dict | None = None
            self.node_session: tuple[Key, datetime] | None = None
            self.lives = Lives()
            self.faults: list[Fault] = []
            self.calls: list[dict] = []
            self.minted: list[dict] = []
            self.counter = 0
            self.wake()

    def wake(self) -> None:
        """End every delay that is running."""
        with self.lock:
            self.changed.set()
            self.changed = threading.Event()

    # --- what a test sets up -------------------------------------------------------------

    def add_key(self, key_id: str, secret: str, token: str | None, arn: str, given_policies) -> Key:
        """Make an access key known; its principal is a user, or a session of a role."""
        partition, account, rest = parse_arn(arn)
        names = [arn]
        if rest.startswith("assumed-role/"):
            names.insert(0, f"arn:{partition}:iam::{account}:role/{rest.split('/')[1]}")
        principal = Principal(
            arn=arn,
            names=tuple(names),
            account=account,
            partition=partition,
            user_id="AIDA" + secrets.token_hex(8).upper(),
            policies=documents(given_policies, [PULLER]),
        )
        key = Key(key_id, secret, token, principal)
        with self.lock:
            self.keys[key_id] = key
        return key

    def add_role(self, arn: str, trust: dict, given_policies, max_session: int) -> Role:
        """Make or replace a role."""
        partition, account, rest = parse_arn(arn)
        if not rest.startswith("role/"):
            raise BadRequest(f"{arn!r} is not a role's ARN such as arn:aws:iam::123456789012:role/pull")
        policy.statements(trust)
        if not 3600 <= max_session <= 43200:
            raise BadRequest("maxSessionDuration must be 3600..43200")
        role = Role(
            arn, account, partition, rest.rsplit("/", 1)[1], "AROA" + secrets.token_hex(8).upper(), trust,
            documents(given_policies, [PULLER]), max_session,
        )
        with self.lock:
            self.roles[arn] = role
        return role

    # --- what a request needs ------------------------------------------------------------

    def key(self, key_id: str) -> Key | None:
        """The known key of that id."""
        with self.lock:
            return self.keys.get(key_id)

    def open_session(self, role: Role, name: str, seconds: int, session_policies: tuple[dict, ...] = ()) -> tuple[Key, datetime]:
        """Temporary credentials for a role, known to the signature check from now on."""
        with self.lock:
            expires = utcnow() + timedelta(seconds=self.lives.session if self.lives.session is not None else seconds)
            principal = Principal(
                arn=f"arn:{role.partition}:sts::{role.account}:assumed-role/{role.name}/{name}",
                names=(role.arn, f"arn:{role.partition}:sts::{role.account}:assumed-role/{role.name}/{name}"),
                account=role.account,
                partition=role.partition,
                user_id=f"{role.id}:{name}",
                policies=role.policies,
                session_policies=session_policies,
                expires=expires.replace(microsecond=0),
            )
            key = Key(
                "ASIA" + secrets.token_hex(8).upper(), "canary/" + secrets.token_urlsafe(25),
                "canary/" + base64.b64encode(secrets.token_bytes(180)).decode(), principal,
            )
            self.keys[key.id] = key
            return key, principal.expires

    def node_credentials(self) -> tuple[Key, datetime, dict] | None:
        """The node role's session as IMDS hands it out: the same one until it nears its end or a test rotates it."""
        with self.lock:
            if self.node is None:
                return None
            now = utcnow()
            if self.node_session is None or self.node_session[1] - now < timedelta(seconds=self.node["renewBefore"]):
                role = self.roles[self.node["roleArn"]]
                self.node_session = self.open_session(role, self.node["instanceId"], self.node["seconds"])
            return (*self.node_session, self.node)

    def mint(self, principal: Principal, region: str, public: bool) -> tuple[str, datetime]:
        """A registry token that says who minted it: (authorizationToken, expiresAt)."""
        with self.lock:
            self.counter += 1
            place = "public" if public else region
            password = f"{principal.arn}|{place}|{self.counter}|{secrets.token_urlsafe(24)}"
            now = utcnow()
            expires = now + timedelta(seconds=self.lives.by_principal.get(principal.arn, self.lives.token))
            if self.lives.cap_to_session and principal.expires:
                expires = min(expires, principal.expires)
            self.minted.append(
                {
                    "principal": principal.arn,
                    "region": region,
                    "public": public,
                    "counter": self.counter,
                    "password": password,
                    "time": now.isoformat(),
                    "expiresAt": expires.isoformat(),
                }
            )
            return base64.b64encode(f"AWS:{password}".encode()).decode(), expires

    def note(self, service: str, operation: str, principal: str | None, region: str | None, status: int) -> None:
        """Remember a call."""
        with self.lock:
            self.calls.append(
                {
                    "time": utcnow().isoformat(),
                    "service": service,
                    "operation": operation,
                    "principal": principal,
                    "region": region,
                    "status": status,
                }
            )

    def fault(self, operation: str, principal: str | None) -> Fault | None:
        """The fault that this call runs into, counted down; its delay has passed when this returns."""
        with self.lock:
            found = next(
                (f for f in self.faults if f.operation in (operation, "*") and f.principal in (None, principal)), None
            )
            if found is None:
                return None
            found.count -= 1
            if found.count <= 0:
                self.faults.remove(found)
            changed = self.changed
        end = time.monotonic() + found.delay
        if found.delay > 0:
            changed.wait(end - time.monotonic())
        return found
