"""Validates a CycloneDX 1.6 document (a file) against the published JSON schema, as cyclonedx-python-lib carries it.

Strictly: a field that the schema does not know is an error. Prints what is wrong; exit status 1.
"""

import sys

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

with open(sys.argv[1], encoding="utf-8") as file:
    text = file.read()
validator = JsonStrictValidator(SchemaVersion.V1_6)
if error := validator.validate_str(text):
    sys.exit(str(error)[:4000])
# One that takes anything would prove nothing.
if not validator.validate_str(text.replace('"assetType"', '"assetKind"')):
    sys.exit("the validator takes what is none")
print("valid")
