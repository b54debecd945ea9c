"""Holds the AWS double to what AWS does, with AWS's own Python SDK as the client.

    .bed/venv/bin/python tests/bed/moto/check.py .bed/bin/bed
"""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import time
import unittest
import urllib.error
import urllib.request

import boto3
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError
from botocore.utils import InstanceMetadataFetcher
from joserfc import jwt
from joserfc.jwk import RSAKey

BED = sys.argv.pop(1) if len(sys.argv) > 1 else ".bed/bin/bed"
USER = "arn:aws:iam::123456789012:user/ci"
PULL = "arn:aws:iam::210987654321:role/pull"
WEB = "arn:aws:iam::123456789012:role/web"
ISSUER = "https://issuer.example/id/1"
SUBJECT = "system:serviceaccount:team:default"
SIGNER, STRANGER = RSAKey.generate_key(2048, {"kid": "k"}), RSAKey.generate_key(2048, {"kid": "k"})


def trust(action: str | list[str], principal: dict, **equals: str) -> dict:
    statement = {"Effect": "Allow", "Action": action, "Principal": principal, "Condition": {"StringEquals": equals}}
    return {"Version": "2012-10-17", "Statement": [statement]}


def token(key=SIGNER, **claims) -> str:
    now = int(time.time())
    given = {"iss": ISSUER, "sub": SUBJECT, "aud": ["sts.amazonaws.com"], "iat": now, "exp": now + 600, **claims}
    return jwt.encode({"alg": "RS256", "kid": "k"}, given, key)


class Double(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.process = subprocess.Popen([BED, "moto"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        cls.at = json.loads(cls.process.stdout.readline())

    @classmethod
    def tearDownClass(cls):
        cls.process.stdin.close()
        cls.process.wait(10)
        cls.process.stdout.close()

    def setUp(self):
        self.control("POST", "/reset")
        self.control("POST", "/keys", accessKeyId="AKIAGOOD", secretAccessKey="right", principal=USER)
        self.control("POST", "/keys", accessKeyId="AKIANONE", secretAccessKey="right", principal=USER + "2", policies=[])
        self.control("POST", "/roles", roleArn=PULL, trust=trust("sts:AssumeRole", {"AWS": USER}, **{"sts:ExternalId": "x1"}))
        provider = {"Federated": "arn:aws:iam::123456789012:oidc-provider/issuer.example/id/1"}
        condition = {"issuer.example/id/1:sub": SUBJECT, "issuer.example/id/1:aud": "sts.amazonaws.com"}
        web = trust("sts:AssumeRoleWithWebIdentity", provider, **condition)
        of_agent = trust(["sts:AssumeRole", "sts:TagSession"], {"Service": "pods.eks.amazonaws.com"}, **{"aws:RequestTag/kubernetes-namespace": "team"})
        self.control("POST", "/roles", roleArn=WEB, trust=web | {"Statement": web["Statement"] + of_agent["Statement"]})
        self.control("POST", "/issuers", issuer=ISSUER, jwks={"keys": [SIGNER.as_dict(private=False)]})

    def control(self, method: str, path: str, **body):
        request = urllib.request.Request(self.at["control"] + path, json.dumps(body).encode(), method=method)
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)

    def client(self, service: str, key="AKIAGOOD", secret="right", session=None, region="eu-west-1"):
        return boto3.client(
            service, endpoint_url=self.at["url"], verify=self.at["ca"], region_name=region, aws_access_key_id=key,
            aws_secret_access_key=secret, aws_session_token=session, config=Config(retries={"max_attempts": 0}),
        )

    def as_session(self, service: str, credentials: dict, **more):
        return self.client(service, credentials["AccessKeyId"], credentials["SecretAccessKey"], credentials["SessionToken"], **more)

    def by_web_identity(self, web_token: str, role=WEB):
        config = Config(signature_version=UNSIGNED, retries={"max_attempts": 0})
        sts = boto3.client("sts", endpoint_url=self.at["url"], verify=self.at["ca"], region_name="eu-west-1", config=config)
        return sts.assume_role_with_web_identity(RoleArn=role, RoleSessionName="web", WebIdentityToken=web_token)["Credentials"]

    def refused(self, code: str, call, *args, **kwargs):
        with self.assertRaises(ClientError) as caught:
            call(*args, **kwargs)
        self.assertEqual(caught.exception.response["Error"]["Code"], code)

    def minted(self, answer: dict) -> list[str]:
        data = answer["authorizationData"]
        data = data[0] if isinstance(data, list) else data
        user, _, password = base64.b64decode(data["authorizationToken"]).decode().partition(":")
        self.assertEqual(user, "AWS")
        self.assertIn(password, [m["password"] for m in self.control("GET", "/minted")])
        return password.split("|")

    def test_ecr_token_names_its_minter(self):
        self.assertEqual(self.minted(self.client("ecr").get_authorization_token())[:3], [USER, "eu-west-1", "1"])
        self.assertEqual(self.minted(self.client("ecr", region="us-east-2").get_authorization_token())[:3], [USER, "us-east-2", "2"])
        public = self.client("ecr-public", region="us-east-1").get_authorization_token()
        self.assertEqual(self.minted(public)[:3], [USER, "public", "3"])

    def test_ecr_refuses_wrong_keys(self):
        self.refused("InvalidSignatureException", self.client("ecr", secret="wrong").get_authorization_token)
        self.refused("UnrecognizedClientException", self.client("ecr", key="AKIAELSE").get_authorization_token)
        self.refused("UnrecognizedClientException", self.client("ecr", session="stray").get_authorization_token)
        self.refused("AccessDeniedException", self.client("ecr", key="AKIANONE").get_authorization_token)
        self.refused("AccessDeniedException", self.client("ecr-public", key="AKIANONE", region="us-east-1").get_authorization_token)
        self.refused("InvalidSignatureException", self.client("ecr-public").get_authorization_token)
        self.assertEqual(self.control("GET", "/minted"), [])

    def test_sts_refuses_wrong_keys(self):
        self.assertEqual(self.client("sts").get_caller_identity()["Arn"], USER)
        self.refused("SignatureDoesNotMatch", self.client("sts", secret="wrong").get_caller_identity)
        self.refused("InvalidClientTokenId", self.client("sts", key="AKIAELSE").get_caller_identity)

    def test_assume_role_asks_trust_and_policy(self):
        right = {"RoleArn": PULL, "RoleSessionName": "s1", "ExternalId": "x1"}
        session = self.client("sts").assume_role(**right)["Credentials"]
        self.assertEqual(self.minted(self.as_session("ecr", session).get_authorization_token())[0], "arn:aws:sts::210987654321:assumed-role/pull/s1")
        self.refused("AccessDenied", self.client("sts").assume_role, **(right | {"ExternalId": "x2"}))
        self.refused("AccessDenied", self.client("sts").assume_role, **(right | {"RoleArn": PULL + "2"}))
        self.refused("AccessDenied", self.client("sts", key="AKIANONE").assume_role, **right)
        self.refused("ValidationError", self.client("sts").assume_role, **(right | {"DurationSeconds": 7200}))

    def test_chain_of_roles_lives_for_an_hour(self):
        last = PULL.replace("role/pull", "role/last")
        self.control("POST", "/roles", roleArn=PULL, trust=trust("sts:AssumeRole", {"AWS": USER}), maxSessionDuration=43200, policies=[{"Statement": [{"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": last}]}])
        self.control("POST", "/roles", roleArn=last, trust=trust("sts:AssumeRole", {"AWS": PULL}), maxSessionDuration=43200)
        session = self.client("sts").assume_role(RoleArn=PULL, RoleSessionName="s1", DurationSeconds=43200)["Credentials"]
        self.refused("AccessDeniedException", self.as_session("ecr", session).get_authorization_token)
        hop = {"RoleArn": last, "RoleSessionName": "s2"}
        self.refused("ValidationError", self.as_session("sts", session).assume_role, **hop, DurationSeconds=3601)
        session = self.as_session("sts", session).assume_role(**hop, DurationSeconds=3600)["Credentials"]
        self.assertEqual(self.minted(self.as_session("ecr", session).get_authorization_token())[0], "arn:aws:sts::210987654321:assumed-role/last/s2")

    def test_session_policy_narrows(self):
        policy = json.dumps({"Statement": [{"Effect": "Allow", "Action": "ecr:Batch*", "Resource": "*"}]})
        session = self.client("sts").assume_role(RoleArn=PULL, RoleSessionName="s1", ExternalId="x1", Policy=policy)["Credentials"]
        self.refused("AccessDeniedException", self.as_session("ecr", session).get_authorization_token)

    def test_repositories_are_used_as_their_policies_say(self):
        def of(key, account, kind, *statements):
            self.control("POST", "/keys", accessKeyId=key, secretAccessKey="right", principal=f"arn:aws:iam::{account}:user/{kind}", policies=[{"Statement": list(statements)}])
            return self.client("ecr", key=key)

        def repository(account, name):
            return f"arn:aws:ecr:eu-west-1:{account}:repository/{name}"

        upload = "ecr:InitiateLayerUpload"
        own, other = "123456789012", "210987654321"
        for account in own, other:
            owner = of(f"AKIAOWNER{account}", account, "owner", {"Effect": "Allow", "Action": "ecr:*", "Resource": "*"})
            for name in "team/app", "team/apple", "team/app/web":
                owner.create_repository(repositoryName=name)
        allow = {"Effect": "Allow", "Action": upload, "Resource": [repository(a, "team/app") for a in (own, other)]}
        pusher = of("AKIAPUSHER", own, "pusher", allow)
        pusher.initiate_layer_upload(repositoryName="team/app")
        for wrong in {"repositoryName": "team/apple"}, {"repositoryName": "team/app/web"}, {"repositoryName": "team/app", "registryId": other}:
            self.refused("AccessDeniedException", pusher.initiate_layer_upload, **wrong)
        letting = json.dumps({"Statement": {"Effect": "Allow", "Action": upload, "Principal": {"AWS": f"arn:aws:iam::{own}:user/pusher"}}})
        for account, name in (own, "team/apple"), (other, "team/app"), (other, "team/apple"):
            self.client("ecr", key=f"AKIAOWNER{account}").set_repository_policy(repositoryName=name, policyText=letting)
        # Within one account either policy is enough; across accounts both are needed.
        pusher.initiate_layer_upload(repositoryName="team/apple")
        pusher.initiate_layer_upload(repositoryName="team/app", registryId=other)
        self.refused("AccessDeniedException", pusher.initiate_layer_upload, repositoryName="team/apple", registryId=other)
        self.refused("AccessDeniedException", pusher.put_image, repositoryName="team/app", imageManifest="{}")
        denied = of("AKIADENIED", own, "pusher", allow, {"Effect": "Deny", "Action": "ecr:*", "Resource": repository(own, "team/apple")})
        self.refused("AccessDeniedException", denied.initiate_layer_upload, repositoryName="team/apple")

    def test_session_expires(self):
        self.control("POST", "/life", sessionSeconds=-1)
        session = self.client("sts").assume_role(RoleArn=PULL, RoleSessionName="s1", ExternalId="x1")["Credentials"]
        self.refused("ExpiredTokenException", self.as_session("ecr", session).get_authorization_token)
        self.refused("ExpiredToken", self.as_session("sts", session).get_caller_identity)

    def test_web_identity_is_verified(self):
        session = self.by_web_identity(token())
        self.assertEqual(self.minted(self.as_session("ecr", session).get_authorization_token())[0], "arn:aws:sts::123456789012:assumed-role/web/web")
        none = "eyJhbGciOiJub25lIn0." + token().split(".")[1] + "."
        for what, (code, wrong) in {
            "a stranger's signature": ("InvalidIdentityToken", token(STRANGER)),
            "no signature": ("InvalidIdentityToken", none),
            "no JWT": ("InvalidIdentityToken", "abcdef"),
            "another issuer": ("InvalidIdentityToken", token(iss="https://issuer.example/id/2")),
            "another audience": ("InvalidIdentityToken", token(aud=["https://kubernetes.default.svc"])),
            "expired": ("ExpiredTokenException", token(exp=int(time.time()) - 1)),
            "another subject": ("AccessDenied", token(sub="system:serviceaccount:other:default")),
        }.items():
            with self.subTest(what):
                self.refused(code, self.by_web_identity, wrong)
        self.refused("AccessDenied", self.by_web_identity, token(), PULL)

    def test_agent_and_imds_hand_out_sessions(self):
        self.control("POST", "/associations", namespace="team", serviceAccount="default", roleArn=WEB)
        request = urllib.request.Request(self.at["agent"] + "/v1/credentials", headers={"Authorization": token(aud=["pods.eks.amazonaws.com"])})
        with urllib.request.urlopen(request) as answer:
            got = json.load(answer)
        self.assertIn("assumed-role/web/eks-team-default", self.client("sts", got["AccessKeyId"], got["SecretAccessKey"], got["Token"]).get_caller_identity()["Arn"])
        for wrong in token(), token(aud=["pods.eks.amazonaws.com"], sub="system:serviceaccount:other:default"):
            request.headers["Authorization"] = wrong
            with self.assertRaises(urllib.error.HTTPError):
                urllib.request.urlopen(request).close()
        self.control("POST", "/associations", namespace="other", serviceAccount="default", roleArn=WEB)
        with self.assertRaises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request)
        self.assertIn("does not have permissions to assume", refused.exception.read().decode())
        self.control("POST", "/node", roleArn=WEB)
        fetch = InstanceMetadataFetcher(base_url=self.at["imds"] + "/", num_attempts=1).retrieve_iam_role_credentials
        first, second = fetch(), fetch()
        self.assertEqual(first["access_key"], second["access_key"])
        self.control("POST", "/node/rotate")
        self.assertNotEqual(fetch()["access_key"], first["access_key"])

    def test_faults_and_lives_are_set(self):
        self.control("POST", "/faults", operation="GetAuthorizationToken", status=400, code="ThrottlingException", count=2)
        for _ in range(2):
            self.refused("ThrottlingException", self.client("ecr").get_authorization_token)
        self.control("POST", "/life", seconds=90)
        expires = self.client("ecr").get_authorization_token()["authorizationData"][0]["expiresAt"].timestamp()
        self.assertAlmostEqual(expires - time.time(), 90, delta=20)
        self.assertEqual([c["status"] for c in self.control("GET", "/calls")], [400, 400, 200])


if __name__ == "__main__":
    unittest.main()
