"""Looks at the cloud and reaches into it with OpenStack's own SDK, beside the backend.

Reads one request a line, `{"id": N, "do": NAME, …}`, and answers `{"id": N, "ok": …}` or
`{"id": N, "error": TEXT}`, in the order in which they are done. Arguments: the MariaDB socket.
"""

import json
import re
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import openstack

SOCKET = sys.argv[1]
MARK = "runner-manager"
local = threading.local()
output = threading.Lock()


def cloud():
    if not hasattr(local, "cloud"):
        local.cloud = openstack.connect(cloud="demo")
        local.cloud.compute.default_microversion = "2.52"
    return local.cloud


def owned(prefix):
    return re.compile(re.escape(prefix) + "-[0-9a-f]{12}").fullmatch


def servers(name):
    return list(cloud().compute.servers(details=False, name=f"^{name}$"))


def ids(name):
    images = {image.name: image.id for image in cloud().image.images()}
    flavors = {flavor.name: flavor.id for flavor in cloud().compute.flavors(get_extra_specs=False)}
    network = next(cloud().network.networks(name="private"))
    return {
        "name": name,
        "image_id": images["blank"],
        "flavor_id": flavors["nano"],
        "networks": [{"uuid": network.id}],
    }


def count(prefix):
    mine = owned(prefix)
    found = cloud().compute.servers(details=False, name=f"^{prefix}-")
    ports = cloud().network.ports(fields=["name", "device_owner"])
    return {
        "servers": sum(1 for server in found if mine(server.name)),
        "ports": sum(1 for port in ports if mine(port.name)),
        "key pairs": sum(1 for pair in cloud().compute.keypairs() if mine(pair.name)),
    }


def settle(server):
    return cloud().compute.wait_for_server(server, wait=120, interval=0.5)


def stop(name):
    for server in servers(name):
        cloud().compute.stop_server(server)
        cloud().compute.wait_for_server(server, status="SHUTOFF", wait=120, interval=0.3)


def vanish(name):
    for server in servers(name):
        cloud().compute.delete_server(server)
        cloud().compute.wait_for_delete(server, wait=120, interval=0.3)
    for port in cloud().network.ports(name=name):
        cloud().network.delete_port(port)
    cloud().compute.delete_keypair(name)


def stranger(name):
    settle(cloud().compute.create_server(**ids(name)))


def take_stranger(name):
    there = servers(name)
    for server in there:
        cloud().compute.delete_server(server)
        cloud().compute.wait_for_delete(server, wait=120, interval=0.3)
    return bool(there)


def twin(name, prefix):
    server = settle(cloud().compute.create_server(
        **ids(name), metadata={MARK: prefix}, tags=[MARK]))
    # Older than the first: there is no other way than the database.
    sql = f"UPDATE nova.instances SET created_at = '2020-01-01' WHERE uuid = '{server.id}'"
    subprocess.run(["mariadb", "--no-defaults", "-uroot", "-S", SOCKET, "-e", sql], check=True)


def leave_port(name, prefix):
    network = next(cloud().network.networks(name="private"))
    cloud().network.create_port(name=name, network_id=network.id, description=f"{MARK} {prefix}")


def leave_key_pair(name, public):
    cloud().compute.create_keypair(name=name, public_key=public, type="ssh")


def show(name):
    """What the API shows of a server to its project."""
    texts = []
    for server in cloud().compute.servers(details=True, name=f"^{name}$"):
        texts.append(json.dumps(server.to_dict(), default=str))
        console = cloud().compute.get_server_console_output(server)
        texts.append(console.get("output") or "")
    pair = cloud().compute.find_keypair(name)
    if pair:
        texts.append(json.dumps(pair.to_dict(), default=str))
    return texts


OPERATIONS = [count, stop, vanish, stranger, take_stranger, twin, leave_port, leave_key_pair, show]


def work(request):
    answer = {"id": request.pop("id")}
    try:
        name = request.pop("do")
        answer["ok"] = next(op for op in OPERATIONS if op.__name__ == name)(**request)
    except Exception as error:  # Whatever it is, the case must hear of it.
        answer["error"] = f"{type(error).__name__}: {error}"
    with output:
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    with ThreadPoolExecutor(8) as pool:
        for line in sys.stdin:
            pool.submit(work, json.loads(line))
