"""Calls the peer with boto3, which has nothing to do with the backend: one call a line of
standard input, one answer a line of standard output, both JSON."""

import base64
import json
import sys

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError


def plain(value):
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return str(value)


def main(url):
    config = Config(region_name="us-east-1", retries={"max_attempts": 0})
    clients = {}
    for line in sys.stdin:
        asked = json.loads(line)
        name, call, arguments = asked["client"], asked["call"], asked["arguments"]
        if name not in clients:
            clients[name] = boto3.client(
                name,
                endpoint_url=url,
                config=config,
                aws_access_key_id="look",
                aws_secret_access_key="look",
            )
        client = clients[name]
        try:
            if client.can_paginate(call):
                answer = client.get_paginator(call).paginate(**arguments).build_full_result()
            else:
                answer = getattr(client, call)(**arguments)
            answer = {"answer": answer}
        except ClientError as error:
            answer = {"error": error.response["Error"]["Code"]}
        print(json.dumps(answer, default=plain), flush=True)


main(sys.argv[1])
