"""IAM policy evaluation, as far as identity, trust and session policies of the bed use it.

Rules: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html
(an explicit Deny wins, then any Allow, else no decision). moto's own evaluation ignores Resource-less
Deny statements and most condition operators, so a wrong grant would pass unseen.
"""

from __future__ import annotations

import re
from functools import lru_cache

ALLOW = "Allow"
DENY = "Deny"


class PolicyError(ValueError):
    """A policy document that this evaluation does not understand."""


@lru_cache(maxsize=4096)
def _pattern(glob: str, ignore_case: bool) -> re.Pattern[str]:
    text = "".join(".*" if c == "*" else "." if c == "?" else re.escape(c) for c in glob)
    return re.compile(text, re.IGNORECASE | re.DOTALL if ignore_case else re.DOTALL)


def glob_matches(glob: str, value: str, ignore_case: bool = False) -> bool:
    """IAM's wildcards: `*` any run of characters, `?` one."""
    return _pattern(glob, ignore_case).fullmatch(value) is not None


def _listed(value) -> list:
    return value if isinstance(value, list) else [value]


OPERATORS = {
    "StringEquals": lambda want, have: want == have,
    "StringEqualsIgnoreCase": lambda want, have: want.lower() == have.lower(),
    "StringLike": glob_matches,
    "ArnEquals": glob_matches,
    "ArnLike": glob_matches,
    "Bool": lambda want, have: want.lower() == have.lower(),
}
NEGATED = {
    "StringNotEquals": "StringEquals",
    "StringNotEqualsIgnoreCase": "StringEqualsIgnoreCase",
    "StringNotLike": "StringLike",
    "ArnNotEquals": "ArnEquals",
    "ArnNotLike": "ArnLike",
}


def _condition_holds(operator: str, key: str, wanted: list[str], context: dict[str, str]) -> bool:
    base, if_exists = operator.removesuffix("IfExists"), operator.endswith("IfExists")
    have = next((v for k, v in context.items() if k.lower() == key.lower()), None)
    if base == "Null":
        return (have is None) == (str(wanted[0]).lower() == "true")
    if base in NEGATED:
        return have is None or not any(OPERATORS[NEGATED[base]](w, have) for w in wanted)
    if have is None:
        return if_exists
    return any(OPERATORS[base](w, have) for w in wanted)


def _conditions_hold(statement: dict, context: dict[str, str]) -> bool:
    return all(
        _condition_holds(operator, key, [str(w) for w in _listed(wanted)], context)
        for operator, keys in statement.get("Condition", {}).items()
        for key, wanted in keys.items()
    )


def _covers(statement: dict, element: str, value: str, ignore_case: bool) -> bool:
    if element in statement:
        return any(glob_matches(p, value, ignore_case) for p in _listed(statement[element]))
    if f"Not{element}" in statement:
        return not any(glob_matches(p, value, ignore_case) for p in _listed(statement[f"Not{element}"]))
    return element == "Resource"  # trust policies and repositories' have no Resource


def statements(document: dict) -> list[dict]:
    """The statements of a policy document, checked for what this evaluation understands."""
    found = _listed(document.get("Statement", []))
    for statement in found:
        if statement.get("Effect") not in (ALLOW, DENY):
            raise PolicyError("a statement needs Effect Allow or Deny")
        if "Action" not in statement and "NotAction" not in statement:
            raise PolicyError("a statement needs Action or NotAction")
        for operator in statement.get("Condition", {}):
            base = operator.removesuffix("IfExists")
            if base not in OPERATORS and base not in NEGATED and base != "Null":
                raise PolicyError(f"condition operator {operator} is not known to the test bed")
    return found


def decide(documents: list[dict], action: str, resource: str, context: dict[str, str]) -> str | None:
    """Allow, Deny or None (nothing speaks about it) over identity or session policies."""
    answer = None
    for statement in (s for d in documents for s in statements(d)):
        if not _covers(statement, "Action", action, True) or not _covers(statement, "Resource", resource, False):
            continue
        if not _conditions_hold(statement, context):
            continue
        if statement["Effect"] == DENY:
            return DENY
        answer = ALLOW
    return answer


def _principal_matches(principal, kind: str, names: list[str]) -> bool:
    if principal == "*":
        return True
    if not isinstance(principal, dict):
        return False
    return any(entry == "*" or entry in names for entry in _listed(principal.get(kind, [])))


def decide_resource(documents: list[dict], action: str, resource: str, names: list[str], context: dict[str, str]) -> str | None:
    """Like `decide`, for the policies of a repository and of a registry: `names` are all ARNs of the caller."""
    answer = None
    for statement in (s for d in documents for s in statements(d)):
        if not _principal_matches(statement.get("Principal"), "AWS", names):
            continue
        if decide([{"Statement": statement}], action, resource, context) == DENY:
            return DENY
        if decide([{"Statement": statement}], action, resource, context) == ALLOW:
            answer = ALLOW
    return answer


def decide_trust(document: dict, action: str, kind: str, names: list[str], context: dict[str, str]) -> str | None:
    """Like `decide`, for a role's trust policy: `names` are all names of the caller of that kind (AWS, Federated, Service)."""
    answer = None
    for statement in statements(document):
        if not _covers(statement, "Action", action, True) or not _conditions_hold(statement, context):
            continue
        if not _principal_matches(statement.get("Principal"), kind, names):
            continue
        if statement["Effect"] == DENY:
            return DENY
        answer = ALLOW
    return answer
