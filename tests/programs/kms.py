"""Keys of KMS, and a user who may use them, at a server of moto: `kms.py ENDPOINT make`."""

import json
import sys

import boto3

endpoint = sys.argv[1]
options = {
    "endpoint_url": endpoint,
    "region_name": "eu-central-1",
    "aws_access_key_id": "setup",
    "aws_secret_access_key": "setup",
}
kms = boto3.client("kms", **options)
iam = boto3.client("iam", **options)
# Five actions: after them the server wants valid signatures.
first = kms.create_key()["KeyMetadata"]["Arn"]
second = kms.create_key()["KeyMetadata"]["Arn"]
iam.create_user(UserName="streamwatch")
policy = {
    "Version": "2012-10-17",
    "Statement": [
        {"Effect": "Allow", "Action": ["kms:GenerateDataKey", "kms:Decrypt"], "Resource": "*"}
    ],
}
iam.put_user_policy(UserName="streamwatch", PolicyName="keys", PolicyDocument=json.dumps(policy))
key = iam.create_access_key(UserName="streamwatch")["AccessKey"]
print(json.dumps({"first": first, "second": second, "id": key["AccessKeyId"], "secret": key["SecretAccessKey"]}))
