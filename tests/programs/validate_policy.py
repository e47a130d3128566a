"""Holds a policy to the schema. Usage: validate_policy.py SCHEMA POLICY; ends with 1 where it does not fit, 3 without a library for it"""

import json
import sys

try:
    import tomllib

    import jsonschema
except ImportError as error:
    print(error, file=sys.stderr)
    sys.exit(3)

with open(sys.argv[1]) as file:
    schema = json.load(file)
with open(sys.argv[2], "rb") as file:
    policy = tomllib.load(file)
jsonschema.validators.validator_for(schema).check_schema(schema)
errors = list(jsonschema.validators.validator_for(schema)(schema).iter_errors(policy))
for error in errors:
    print(error.json_path, error.message, file=sys.stderr)
sys.exit(1 if errors else 0)
