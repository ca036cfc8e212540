"""Calls the app of app.py through the gate: client.py ADDRESS COOKIE USER."""

import queue
import sys

import grpc

address, cookie, user = sys.argv[1:]
signed_in = (("cookie", cookie),)
channel = grpc.insecure_channel(address)


def fails(call):
    try:
        call()
    except grpc.RpcError as error:
        return error.code(), error.details()
    raise AssertionError("the call succeeded")


whoami = channel.unary_unary("/test.App/Whoami")
answer, call = whoami.with_call(b"", metadata=signed_in + (("x-upwork-user-id", "1"),), timeout=20)
assert answer == user.encode(), answer
assert ("x-said", "whoami") in [tuple(pair) for pair in call.trailing_metadata()], call.trailing_metadata()

# Without a session the gate's 401 is gRPC's UNAUTHENTICATED.
code, _ = fails(lambda: whoami(b"", timeout=20))
assert code == grpc.StatusCode.UNAUTHENTICATED, code

counted = list(channel.unary_stream("/test.App/Count")(b"1000", metadata=signed_in, timeout=20))
assert counted == [str(number).encode() for number in range(1000)], len(counted)

total = channel.stream_unary("/test.App/Total")((str(number).encode() for number in range(100)), metadata=signed_in, timeout=20)
assert total == b"4950", total

# Each message is answered before the next is sent.
requests = queue.Queue()
answers = channel.stream_stream("/test.App/Echo")(iter(requests.get, None), metadata=signed_in, timeout=20)
for message in (b"one", b"two", b"x" * 300_000):
    requests.put(message)
    assert next(answers) == message
requests.put(None)
assert list(answers) == []

code, details = fails(lambda: channel.unary_unary("/test.App/Refuse")(b"", metadata=signed_in, timeout=20))
assert (code, details) == (grpc.StatusCode.FAILED_PRECONDITION, "not today: é"), (code, details)

code, _ = fails(lambda: channel.unary_unary("/test.App/Wait")(b"", metadata=signed_in, timeout=0.5))
assert code == grpc.StatusCode.DEADLINE_EXCEEDED, code
assert channel.unary_unary("/test.App/WasCancelled")(b"", metadata=signed_in, timeout=25) == b"yes"

print("done")
