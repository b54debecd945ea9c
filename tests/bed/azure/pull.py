"""Reads an image's manifest with Azure's own SDK: pull.py IDENTITY SERVER REPOSITORY TAG.

IDENTITY is `workload`, `managed` or `principal`; the settings stand in the SDK's usual environment variables. Prints one line of
JSON: the digest, or the SDK's error.
"""

import json
import os
import sys

from azure.containerregistry import ContainerRegistryClient
from azure.core.exceptions import AzureError
from azure.identity import ClientSecretCredential, ManagedIdentityCredential, WorkloadIdentityCredential

IDENTITIES = {
    "workload": WorkloadIdentityCredential,
    "managed": lambda: ManagedIdentityCredential(client_id=os.environ["AZURE_CLIENT_ID"]),
    "principal": lambda: ClientSecretCredential(
        os.environ["AZURE_TENANT_ID"], os.environ["AZURE_CLIENT_ID"], os.environ["AZURE_CLIENT_SECRET"]
    ),
}


def main():
    identity, server, repository, tag = sys.argv[1:]
    try:
        with ContainerRegistryClient(f"https://{server}", IDENTITIES[identity](), retry_total=0) as client:
            answer = {"digest": client.get_manifest(repository, tag).digest}
    except AzureError as error:
        answer = {"error": str(error)}
    print(json.dumps(answer))


main()
