"""A gRPC app of bytes: prints its port, and serves until it is ended."""

from concurrent.futures import ThreadPoolExecutor
import threading

import grpc

cancelled = threading.Event()


def user(context):
    return dict(context.invocation_metadata()).get("x-upwork-user-id", "")


def whoami(request, context):
    context.set_trailing_metadata((("x-said", "whoami"),))
    return user(context).encode()


def count(request, context):
    for number in range(int(request)):
        yield str(number).encode()


def total(requests, context):
    return str(sum(int(request) for request in requests)).encode()


def echo(requests, context):
    for request in requests:
        yield request


def refuse(request, context):
    context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not today: é")


def wait(request, context):
    """Never answers; ends when the call is cancelled."""
    context.add_callback(cancelled.set)
    cancelled.wait()
    return b""


def was_cancelled(request, context):
    return b"yes" if cancelled.wait(timeout=20) else b"no"


METHODS = {
    "Whoami": grpc.unary_unary_rpc_method_handler(whoami),
    "Count": grpc.unary_stream_rpc_method_handler(count),
    "Total": grpc.stream_unary_rpc_method_handler(total),
    "Echo": grpc.stream_stream_rpc_method_handler(echo),
    "Refuse": grpc.unary_unary_rpc_method_handler(refuse),
    "Wait": grpc.unary_unary_rpc_method_handler(wait),
    "WasCancelled": grpc.unary_unary_rpc_method_handler(was_cancelled),
}

server = grpc.server(ThreadPoolExecutor(max_workers=8))
server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.App", METHODS),))
port = server.add_insecure_port("127.0.0.1:0")
server.start()
print(port, flush=True)
server.wait_for_termination()
