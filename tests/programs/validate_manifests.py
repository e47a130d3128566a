"""Validates Kubernetes and Istio manifests (YAML on stdin) against their published schemas.

NetworkPolicy: the strict JSON schemas of Kubernetes, as the package kubernetes-validate carries them.
Istio: the models that cloudcoil-models-istio generates from Istio's custom resource definitions; a
field that they do not know, or lose, is an error. Prints a line a document; exit status 1 with the
first that is refused.
"""

import json
import sys

import kubernetes_validate
import yaml
from cloudcoil.models.istio.security import v1 as istio

ISTIO = {"AuthorizationPolicy": istio.AuthorizationPolicy, "PeerAuthentication": istio.PeerAuthentication}


def kept(given, model):
    """What of `given` the model did not take over as it is."""
    if isinstance(given, dict):
        if not isinstance(model, dict):
            return f"{given} became {model}"
        for key, value in given.items():
            if key not in model:
                return f"{key} is unknown"
            if lost := kept(value, model[key]):
                return f"{key}: {lost}"
    elif isinstance(given, list):
        if not isinstance(model, list) or len(model) != len(given):
            return f"{given} became {model}"
        for one, other in zip(given, model):
            if lost := kept(one, other):
                return lost
    elif given != model:
        return f"{given} became {model}"
    return None


documents = [document for document in yaml.safe_load_all(sys.stdin) if document is not None]
for document in documents:
    kind = document["kind"]
    try:
        if document["apiVersion"] == "networking.k8s.io/v1":
            kubernetes_validate.validate(document, kubernetes_validate.latest_version(), strict=True)
        else:
            assert document["apiVersion"] == "security.istio.io/v1", document["apiVersion"]
            model = ISTIO[kind].model_validate(document)
            lost = kept(document, json.loads(model.model_dump_json(by_alias=True, exclude_none=True)))
            assert lost is None, lost
    except Exception as error:
        print(f"{kind} {document['metadata']['name']}: {error}", file=sys.stderr)
        sys.exit(1)
    print(f"{kind} {document['metadata']['name']}")
