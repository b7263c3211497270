"""moto's server, as `moto_server` starts it, with a faster look for the tags of one thing.

moto goes through the tags of all things there ever were for each of them, which takes most of the
time of a run of the conformance suite.
"""

import sys

from moto.ec2.models.tags import TagBackend
from moto.ec2.utils import EC2_PREFIX_TO_RESOURCE, get_prefix
from moto.server import main

of_all = TagBackend.describe_tags


def describe_tags(self, filters=None):
    wanted = (filters or {}).get("resource-id", [])
    if filters is None or list(filters) != ["resource-id"] or len(wanted) != 1:
        return of_all(self, filters)
    (thing,) = wanted
    if any(letter in thing for letter in "*?"):
        return of_all(self, filters)
    kind = EC2_PREFIX_TO_RESOURCE.get(get_prefix(thing), "")
    return [
        {"resource_id": thing, "key": key, "value": value, "resource_type": kind}
        for key, value in self.tags.get(thing, {}).copy().items()
    ]


TagBackend.describe_tags = describe_tags
sys.exit(main())
