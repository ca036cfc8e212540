# Upwork's own Python SDK. Its access token is a ticket, a personal access token or a placeholder; only the constants of its
# module are set, and a cookie if one is given. Prints the answers as JSON.
import json
import os
import sys

os.environ["OAUTHLIB_INSECURE_TRANSPORT"] = "1"
import upwork
import upwork.upwork
from upwork.routers import graphql

door, token, cookie = sys.argv[1:4]
upwork.upwork.BASE_HOST = door + "/upwork"
upwork.upwork.GQL_EPOINT = door + "/upwork/graphql"


def client():
    known = {"access_token": token, "token_type": "Bearer", "expires_at": 4102444800}
    made = upwork.Client(upwork.Config({"client_id": "-", "client_secret": "-", "token": known}))
    if cookie:
        # The SDK does not expose its session of `requests`.
        made._Client__oauth.headers["Cookie"] = cookie
    return made


# A router switches its client to GraphQL for good, so REST needs another client.
rest, queries = client(), client()
api = graphql.Api(queries)
answers = {
    "graphql": api.execute({"query": "{ user { id nid } }"}),
    "rest": rest.get("/auth/v1/info", {"a": "b c"}),
}
print(json.dumps(answers))
