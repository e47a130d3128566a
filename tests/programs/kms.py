"""Keys of KMS at a server of moto, and a user who may use them.

Usage: kms.py ENDPOINT make                      two keys, an alias of the first, the user
       kms.py ENDPOINT move ID SECRET ALIAS KEY  the alias stands for that key from now on
       kms.py ENDPOINT rotate ID SECRET KEY      a rotation on demand"""

import json
import sys

import boto3

endpoint, verb, *arguments = sys.argv[1:]
signs = ("setup", "setup") if verb == "make" else arguments[:2]
options = {
    "endpoint_url": endpoint,
    "region_name": "eu-central-1",
    "aws_access_key_id": signs[0],
    "aws_secret_access_key": signs[1],
}
kms = boto3.client("kms", **options)


def make():
    iam = boto3.client("iam", **options)
    # Six actions: after them the server wants valid signatures.
    first = kms.create_key()["KeyMetadata"]["Arn"]
    second = kms.create_key()["KeyMetadata"]["Arn"]
    kms.create_alias(AliasName="alias/streamwatch", TargetKeyId=first)
    iam.create_user(UserName="streamwatch")
    actions = ["kms:GenerateDataKey", "kms:Decrypt", "kms:UpdateAlias", "kms:RotateKeyOnDemand"]
    policy = {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Action": actions, "Resource": "*"}],
    }
    iam.put_user_policy(UserName="streamwatch", PolicyName="keys", PolicyDocument=json.dumps(policy))
    key = iam.create_access_key(UserName="streamwatch")["AccessKey"]
    alias = first.rsplit(":", 1)[0] + ":alias/streamwatch"
    return {
        "first": first,
        "second": second,
        "alias": alias,
        "id": key["AccessKeyId"],
        "secret": key["SecretAccessKey"],
    }


if verb == "make":
    said = make()
elif verb == "move":
    kms.update_alias(AliasName=arguments[2].rsplit(":", 1)[1], TargetKeyId=arguments[3])
    said = {}
else:
    kms.rotate_key_on_demand(KeyId=arguments[2])
    said = {}
print(json.dumps(said))
