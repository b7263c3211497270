"""Neutron's mechanism driver without agents: every port is bound at once, and active."""

from neutron_lib import constants
from neutron_lib.api.definitions import portbindings
from neutron_lib.plugins.ml2 import api


class NoAgentDriver(api.MechanismDriver):
    def initialize(self):
        # Neutron 21 reads a port's forwardings, which a worker knows only when their model is
        # imported: without it a list of ports fails now and then.
        import sqlalchemy.orm
        from neutron.db.models import port_forwarding  # noqa: F401

        sqlalchemy.orm.configure_mappers()
        self.details = {
            portbindings.CAP_PORT_FILTER: False,
            portbindings.VIF_DETAILS_CONNECTIVITY: self.connectivity,
        }

    @property
    def connectivity(self):
        return portbindings.CONNECTIVITY_L2

    def bind_port(self, context):
        for segment in context.segments_to_bind[:1]:
            context.set_binding(
                segment[api.ID],
                portbindings.VIF_TYPE_BRIDGE,
                self.details,
                status=constants.PORT_STATUS_ACTIVE,
            )
