"""Projects, users, roles and the catalogue. Arguments: URL PASSWORD REGION NAME=TYPE=ENDPOINT…"""

import sys

import openstack

url, password, region, *services = sys.argv[1:]
identity = openstack.connect(
    auth_url=url,
    username="admin",
    password=password,
    project_name="admin",
    user_domain_name="Default",
    project_domain_name="Default",
    region_name=region,
).identity


def by_name(things):
    return {thing.name: thing for thing in things}


projects, users, roles = by_name(identity.projects()), by_name(identity.users()), by_name(identity.roles())
for name in ("service", "demo"):
    if name not in projects:
        projects[name] = identity.create_project(name=name, domain_id="default")
for name in ("service", "member", "reader"):
    if name not in roles:
        roles[name] = identity.create_role(name=name)


def user(name, project, granted):
    who = users.get(name) or identity.create_user(
        name=name, password=password, domain_id="default", default_project_id=projects[project].id
    )
    for role in granted:
        identity.assign_project_role_to_user(projects[project], who, roles[role])


for name in ("nova", "glance", "neutron", "placement", "cinder"):
    user(name, "service", ("admin", "service"))
user("demo", "demo", ("member",))

known = {service.type: service for service in identity.services()}
endpoints = {(endpoint.service_id, endpoint.interface) for endpoint in identity.endpoints()}
for entry in services:
    name, kind, address = entry.split("=", 2)
    service = known.get(kind) or identity.create_service(name=name, type=kind)
    for interface in ("public", "internal", "admin"):
        if (service.id, interface) not in endpoints:
            identity.create_endpoint(
                service_id=service.id, interface=interface, url=address, region_id=region
            )
