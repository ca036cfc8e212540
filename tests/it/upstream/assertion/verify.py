# Runs the Python of docs/apps.md, the first argument, on assertions, one a line. Prints a JSON list of claims and refusals.
import json
import sys

import jwt

exec(sys.argv[1])


class Request:
    def __init__(self, assertion):
        self.headers = {"X-Upwork-Assertion": assertion}


outcomes = []
for line in sys.stdin:
    try:
        outcomes.append(user(Request(line.strip())))
    except jwt.PyJWTError as error:
        outcomes.append(f"{type(error).__name__}: {error}")
print(json.dumps(outcomes))
