# shellcheck shell=bash
# Writes the configuration of all services. Sourced by up.sh.
database() { echo "mysql+pymysql://root@localhost/$1?unix_socket=$STATE/run/mysql.sock&charset=utf8"; }

pool='max_pool_size = 20
max_overflow = 40
connection_recycle_time = 3600'

# USER: how a service logs in.
login() {
    cat <<CONF
auth_type = password
auth_url = http://$IP:$KEYSTONE/v3
username = $1
password = $PASSWORD
project_name = service
user_domain_name = Default
project_domain_name = Default
region_name = $REGION
CONF
}

token() {
    cat <<CONF
[keystone_authtoken]
www_authenticate_uri = http://$IP:$KEYSTONE
$(login "$1")
service_token_roles = service
service_token_roles_required = true
memcached_servers = $IP:$MEMCACHED
token_cache_time = 300
CONF
}

configure_rabbitmq() {
    cat >"$STATE/etc/rabbitmq.conf" <<CONF
listeners.tcp.1 = $IP:$AMQP
distribution.listener.interface = $IP
vm_memory_high_watermark.absolute = 1GB
disk_free_limit.absolute = 50MB
log.console = true
log.console.level = warning
log.file = false
CONF
    echo '[].' >"$STATE/etc/enabled_plugins"
    : >"$STATE/etc/rabbitmq-env.conf"
}

configure_keystone() {
    cat >"$STATE/etc/keystone.conf" <<CONF
[DEFAULT]
log_file = $STATE/log/keystone.log
public_endpoint = http://$IP:$KEYSTONE/
[database]
connection = $(database keystone)
$pool
[token]
provider = fernet
expiration = 86400
[fernet_tokens]
key_repository = $STATE/keystone/fernet
[fernet_receipts]
key_repository = $STATE/keystone/fernet
[credential]
key_repository = $STATE/keystone/credential
[identity]
password_hash_rounds = 4
[cache]
enabled = true
backend = dogpile.cache.memcached
memcache_servers = $IP:$MEMCACHED
[oslo_policy]
enforce_scope = false
enforce_new_defaults = false
CONF
}

configure_glance() {
    cat >"$STATE/etc/glance-api.conf" <<CONF
[DEFAULT]
log_file = $STATE/log/glance.log
bind_host = $IP
bind_port = $GLANCE
workers = 0
enabled_backends = file:file
enabled_import_methods = []
lock_path = $STATE/lock
node_staging_uri = file://$STATE/glance/staging
[file]
filesystem_store_datadir = $STATE/glance/images
[glance_store]
default_backend = file
[os_glance_staging_store]
filesystem_store_datadir = $STATE/glance/staging
[os_glance_tasks_store]
filesystem_store_datadir = $STATE/glance/tasks
[database]
connection = $(database glance)
$pool
$(token glance)
[paste_deploy]
flavor = keystone
config_file = /usr/share/glance-common/glance-api-paste.ini
[oslo_concurrency]
lock_path = $STATE/lock
CONF
}

configure_placement() {
    mkdir -p "$STATE/etc/placement"
    cat >"$STATE/etc/placement/placement.conf" <<CONF
[DEFAULT]
log_file = $STATE/log/placement.log
[placement_database]
connection = $(database placement)
$pool
[api]
auth_strategy = keystone
$(token placement)
CONF
}

# Lists come in pages of ten, so that every longer one has several. The host is small and says
# that it is large.
configure_nova() {
    cat >"$STATE/etc/nova.conf" <<CONF
[DEFAULT]
log_dir = $STATE/log
state_path = $STATE/nova
transport_url = rabbit://guest:guest@$IP:$AMQP/
my_ip = $IP
host = compute1
compute_driver = machines.MachineDriver
enabled_apis = osapi_compute
osapi_compute_listen = $IP
osapi_compute_listen_port = $NOVA
osapi_compute_workers = 2
rpc_response_timeout = 60
periodic_fuzzy_delay = 0
cpu_allocation_ratio = 16
ram_allocation_ratio = 1.5
disk_allocation_ratio = 10
reserved_host_memory_mb = 0
reserved_host_disk_mb = 0
instance_usage_audit = false
sync_power_state_interval = -1
max_concurrent_builds = 50
service_down_time = 120
vif_plugging_is_fatal = false
vif_plugging_timeout = 0
[api]
auth_strategy = keystone
max_limit = 10
[api_database]
connection = $(database nova_api)
$pool
[database]
connection = $(database nova)
$pool
$(token nova)
# Cinder lets a volume go from a server only where Nova says that it is Nova.
[service_user]
send_service_user_token = true
$(login nova)
[placement]
$(login placement)
[neutron]
$(login neutron)
[glance]
endpoint_override = http://$IP:$GLANCE
region_name = $REGION
[cinder]
os_region_name = $REGION
$(login nova)
[conductor]
workers = 1
[scheduler]
workers = 1
discover_hosts_in_cells_interval = 2
[filter_scheduler]
enabled_filters = ComputeFilter,ComputeCapabilitiesFilter,ImagePropertiesFilter,ServerGroupAntiAffinityFilter,ServerGroupAffinityFilter
track_instance_changes = false
[cache]
enabled = true
backend = oslo_cache.dict
[vnc]
enabled = false
[oslo_concurrency]
lock_path = $STATE/lock
[oslo_messaging_notifications]
driver = noop
[wsgi]
api_paste_config = /usr/share/nova-common/api-paste.ini
[quota]
instances = 1000
cores = 4000
ram = 8000000
key_pairs = 1000
server_groups = 100
CONF
}

configure_cinder() {
    cat >"$STATE/etc/cinder.conf" <<CONF
[DEFAULT]
log_dir = $STATE/log
state_path = $STATE/cinder
transport_url = rabbit://guest:guest@$IP:$AMQP/
my_ip = $IP
host = storage1
enabled_backends = files
glance_api_servers = http://$IP:$GLANCE
api_paste_config = /usr/share/cinder-common/api-paste.ini
auth_strategy = keystone
osapi_max_limit = 10
osapi_volume_listen = $IP
osapi_volume_listen_port = $CINDER
osapi_volume_workers = 1
periodic_fuzzy_delay = 0
rpc_response_timeout = 60
quota_volumes = 1000
quota_gigabytes = 100000
[files]
volume_driver = volumes.FileDriver
volume_backend_name = files
[database]
connection = $(database cinder)
$pool
$(token cinder)
[oslo_concurrency]
lock_path = $STATE/lock
[oslo_messaging_notifications]
driver = noop
CONF
}

configure_neutron() {
    cat >"$STATE/etc/neutron.conf" <<CONF
[DEFAULT]
log_file = $STATE/log/neutron.log
state_path = $STATE/neutron
transport_url = rabbit://guest:guest@$IP:$AMQP/
bind_host = $IP
bind_port = $NEUTRON
auth_strategy = keystone
core_plugin = ml2
service_plugins = router
api_workers = 2
rpc_workers = 1
rpc_state_report_workers = 0
api_paste_config = /usr/share/neutron-common/api-paste.ini
dhcp_agent_notification = false
notify_nova_on_port_status_changes = true
notify_nova_on_port_data_changes = true
send_events_interval = 1
[database]
connection = $(database neutron)
$pool
$(token neutron)
[nova]
$(login nova)
[placement]
$(login placement)
[oslo_concurrency]
lock_path = $STATE/lock
[oslo_messaging_notifications]
driver = noop
[quotas]
default_quota = 1000
quota_network = 1000
quota_subnet = 1000
quota_port = 5000
quota_security_group = 1000
quota_security_group_rule = 5000
quota_floatingip = 1000
[ml2]
type_drivers = local,flat
tenant_network_types = local
mechanism_drivers = noagent
extension_drivers = port_security
[ml2_type_flat]
flat_networks = *
[securitygroup]
enable_security_group = true
CONF
    mkdir -p "$STATE/python/rm_peer-1.dist-info"
    printf 'Metadata-Version: 2.1\nName: rm-peer\nVersion: 1\n' >"$STATE/python/rm_peer-1.dist-info/METADATA"
    printf '[neutron.ml2.mechanism_drivers]\nnoagent = noagent:NoAgentDriver\n' \
        >"$STATE/python/rm_peer-1.dist-info/entry_points.txt"
}

# Each project's user, for the clients.
configure_clouds() {
    local user
    {
        echo 'clouds:'
        for user in demo admin; do
            cat <<CONF
  $user:
    auth:
      auth_url: http://$IP:$KEYSTONE/v3
      username: $user
      password: $PASSWORD
      project_name: $user
      user_domain_name: Default
      project_domain_name: Default
    region_name: $REGION
    identity_api_version: 3
    interface: public
CONF
        done
    } >"$STATE/clouds.yaml"
}
