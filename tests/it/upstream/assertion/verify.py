# Verifies assertions as an app in Python does: one a line, with the keys at a URL. Prints a JSON list of claims and refusals.
import json
import sys

import jwt

url, issuer, audience = sys.argv[1:4]
keys = jwt.PyJWKClient(url)


def verify(token):
    key = keys.get_signing_key_from_jwt(token)
    required = {"require": ["iss", "aud", "sub", "exp"]}
    return jwt.decode(token, key, algorithms=["ES256"], issuer=issuer, audience=audience, options=required)


outcomes = []
for line in sys.stdin:
    try:
        outcomes.append(verify(line.strip()))
    except jwt.PyJWTError as error:
        outcomes.append(f"{type(error).__name__}: {error}")
print(json.dumps(outcomes))
