"""Flavors, images, networks and a type of volumes; then waits for the hosts. Argument: the servers' subnet."""

import sys
import time

import openstack
from openstack import exceptions

admin, demo = openstack.connect(cloud="admin"), openstack.connect(cloud="demo")


def first(things):
    return next(iter(things), None)


def patiently(call):
    """Services answer before they work."""
    end = time.time() + 90
    while True:
        try:
            return call()
        except exceptions.SDKException:
            if time.time() > end:
                raise
            time.sleep(0.5)


flavors = patiently(lambda: {flavor.name for flavor in admin.compute.flavors(get_extra_specs=False)})
for name, memory, cores in (("nano", 64, 1), ("small", 2048, 2), ("giant", 64 * 1024 * 1024, 1)):
    if name not in flavors:
        admin.compute.create_flavor(name=name, ram=memory, vcpus=cores, disk=1)
# Servers of these images boot with the runner folder that the image's first line names, wherever
# the image was copied to; of `blank` they do not boot at all. Two have one name.
images = [image.name for image in patiently(lambda: list(admin.image.images()))]
for name in ("blank", "plain", "sim", "double", "double"):
    if images.count(name) < (2 if name == "double" else 1):
        images.append(name)
        admin.create_image(
            name,
            data=f"{name}\n".encode().ljust(4096, b"\0"),
            disk_format="raw",
            container_format="bare",
            visibility="public",
            wait=True,
            min_disk=0,
            min_ram=0,
            allow_duplicates=True,
        )
if "fast" not in {kind.name for kind in patiently(lambda: list(admin.block_storage.types()))}:
    admin.block_storage.create_type(name="fast")
outside = patiently(lambda: first(admin.network.networks(name="public"))) or admin.network.create_network(
    name="public",
    is_router_external=True,
    provider_network_type="flat",
    provider_physical_network="public",
)
if not first(admin.network.subnets(name="public")):
    admin.network.create_subnet(
        name="public", network_id=outside.id, ip_version=4, cidr="198.51.100.0/24", is_dhcp_enabled=False
    )
inside = first(demo.network.networks(name="private")) or demo.network.create_network(name="private")
subnet = first(demo.network.subnets(name="private")) or demo.network.create_subnet(
    name="private", network_id=inside.id, ip_version=4, cidr=sys.argv[1], is_dhcp_enabled=False
)
if not first(demo.network.routers(name="router")):
    router = demo.network.create_router(name="router", external_gateway_info={"network_id": outside.id})
    demo.network.add_interface_to_router(router, subnet_id=subnet.id)

end = time.time() + 120
while True:
    hosts = [host for host in admin.compute.hypervisors(details=True) if host.state == "up"]
    parts = {service.binary for service in admin.compute.services() if service.state == "up"}
    storage = admin.block_storage.get("/os-services").json()["services"]
    parts |= {service["binary"] for service in storage if service["state"] == "up"}
    if hosts and {"nova-conductor", "nova-scheduler", "nova-compute", "cinder-volume"} <= parts:
        break
    if time.time() > end:
        sys.exit(f"there is no host: {hosts} {parts}")
    time.sleep(0.5)
# The host is mapped into its cell every two seconds: a server is launched until it is there.
while True:
    server = demo.compute.create_server(
        name="probe",
        image_id=first(demo.image.images(name="blank")).id,
        flavor_id=first(flavor.id for flavor in demo.compute.flavors() if flavor.name == "nano"),
        networks=[{"uuid": inside.id}],
    )
    try:
        demo.compute.wait_for_server(server, wait=60, interval=0.5)
    except exceptions.SDKException:
        if time.time() > end:
            raise
    else:
        break
    finally:
        demo.compute.delete_server(server, ignore_missing=True)
        demo.compute.wait_for_delete(server, wait=60, interval=0.5)
