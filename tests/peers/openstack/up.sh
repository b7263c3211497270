#!/usr/bin/env bash
# Starts a real OpenStack on loopback: Keystone, Glance, Placement, Nova, Neutron and Cinder from
# Debian's packages, in a root of their own, with a hypervisor of our own (python/machines.py) whose servers are namespaces
# of this machine, and volumes that are files (python/volumes.py). Idempotent; README.md describes
# it. PEER_STATE is the folder of everything.
set -Eeuo pipefail
# shellcheck source=../chroot/enter.sh
. "$(dirname "${BASH_SOURCE[0]}")/../chroot/enter.sh"
if [ -z "${PEER_INSIDE:-}" ]; then
    build_root openstack
    [ -z "${PEER_INSTALL_ONLY:-}" ] || exit 0
    set_up_root
    enter_root
fi
# shellcheck source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source=configure.sh
. "$HERE/configure.sh"
PASSWORD=peer
trap 'say "FAILED at line $LINENO (logs: $STATE/log)"' ERR

mkdir -p "$STATE"/{etc,log,run,python,nova,glance/images,keystone,neutron,cinder,lock,mysql-tmp,rabbit,machines,outside,runners}
exec 9>"$STATE/run/up.lock"
flock -n 9 || die "another up.sh runs on $STATE"

# ---- The network of the servers.
if ! ip netns list | grep -qw "$NETNS"; then
    ip netns add "$NETNS"
    ip link add "$LINK" type veth peer name inner netns "$NETNS"
    ip address add "$OUTER/30" dev "$LINK"
    ip link set "$LINK" up
    ip -n "$NETNS" address add "$INNER/30" dev inner
    ip -n "$NETNS" link set inner up
    ip -n "$NETNS" link set lo up
    ip -n "$NETNS" route add local "$SUBNET" dev lo
    ip route add "$SUBNET" via "$INNER"
fi

# ---- Database, queue, cache.
for service in "keystone $KEYSTONE" "glance $GLANCE" "placement $PLACEMENT" "nova-api $NOVA" \
    "neutron $NEUTRON" "cinder-api $CINDER" "rabbitmq $AMQP" "memcached $MEMCACHED" "epmd $EPMD"; do
    read -r name port <<<"$service"
    if ! alive "$name" && port_is_open "$port"; then die "port $port ($name) is taken"; fi
done
if [ ! -e "$STATE/mysql/.made" ]; then
    rm -rf "$STATE/mysql"
    mariadb-install-db --no-defaults --user=root --datadir="$STATE/mysql" --skip-test-db \
        --auth-root-authentication-method=normal --skip-name-resolve >"$STATE/log/mariadb-install.log" 2>&1
    touch "$STATE/mysql/.made"
fi
start mariadb mariadbd --no-defaults --user=root --datadir="$STATE/mysql" --tmpdir="$STATE/mysql-tmp" \
    --socket="$STATE/run/mysql.sock" --pid-file="$STATE/run/mysqld.own-pid" --skip-networking --skip-name-resolve \
    --character-set-server=utf8mb3 --collation-server=utf8mb3_general_ci --max-connections=1000 \
    --innodb-flush-log-at-trx-commit=0 --innodb-doublewrite=0 --innodb-flush-method=nosync \
    --innodb-buffer-pool-size=128M --innodb-log-file-size=64M --innodb-file-per-table=0 \
    --performance-schema=OFF --skip-log-bin
start memcached memcached -u root -l "$IP" -p "$MEMCACHED" -U 0 -m 64
# An epmd of our own, so that it can be ended.
start epmd epmd -address "$IP" -port "$EPMD"
configure_rabbitmq
start rabbitmq env HOME="$STATE/rabbit" RABBITMQ_NODENAME=rm-openstack@localhost RABBITMQ_DIST_PORT="$DIST" \
    RABBITMQ_CONFIG_FILE="$STATE/etc/rabbitmq.conf" RABBITMQ_CONF_ENV_FILE="$STATE/etc/rabbitmq-env.conf" \
    RABBITMQ_ENABLED_PLUGINS_FILE="$STATE/etc/enabled_plugins" RABBITMQ_MNESIA_BASE="$STATE/rabbit/mnesia" \
    RABBITMQ_LOG_BASE="$STATE/log" RABBITMQ_PID_FILE="$STATE/run/rabbit.own-pid" \
    ERL_EPMD_PORT="$EPMD" ERL_EPMD_ADDRESS="$IP" \
    RABBITMQ_SERVER_ERL_ARGS="+P 1048576 +t 5000000 +S 1:1 +sbwt none -kernel inet_dist_use_interface {127,0,0,1}" \
    "$(dirname "$(readlink -f /usr/lib/rabbitmq/bin/rabbitmq-server)")/rabbitmq-server"

# ---- Configuration and databases.
configure_keystone
configure_glance
configure_placement
configure_nova
configure_neutron
configure_cinder
configure_clouds
cp "$HERE"/python/*.py "$STATE/python/"
rm -rf "$STATE/runners/plain"
cp -a "$HERE/machine/runner" "$STATE/runners/plain"
export PYTHONPATH=$STATE/python PYTHONDONTWRITEBYTECODE=1 PYTHONWARNINGS=ignore HOME=${HOME:-/root}
export OS_KEYSTONE_CONFIG_FILES=keystone.conf OS_KEYSTONE_CONFIG_DIR=$STATE/etc
export OS_PLACEMENT_CONFIG_DIR=$STATE/etc/placement
export RM_PEER_STATE=$STATE RM_PEER_MACHINE=$HERE/machine RM_PEER_NETNS=/run/netns/$NETNS
wait_for mariadb 300 sql -e 'select 1'

keystone_database() {
    local manage="keystone-manage --config-file $STATE/etc/keystone.conf"
    install -d -m 700 "$STATE/keystone/fernet" "$STATE/keystone/credential"
    $manage db_sync
    $manage fernet_setup --keystone-user root --keystone-group root
    $manage credential_setup --keystone-user root --keystone-group root
    $manage bootstrap --bootstrap-password "$PASSWORD" --bootstrap-region-id "$REGION" \
        --bootstrap-admin-url "http://$IP:$KEYSTONE/v3/" --bootstrap-internal-url "http://$IP:$KEYSTONE/v3/" \
        --bootstrap-public-url "http://$IP:$KEYSTONE/v3/"
    placement-manage --config-file "$STATE/etc/placement/placement.conf" db sync
    glance-manage --config-file "$STATE/etc/glance-api.conf" db_sync
}
nova_database() {
    local manage="nova-manage --config-file $STATE/etc/nova.conf"
    $manage api_db sync
    $manage cell_v2 map_cell0 --database_connection "$(database nova_cell0)"
    $manage db sync
    $manage cell_v2 create_cell --name cell1
}
cinder_database() { cinder-manage --config-file "$STATE/etc/cinder.conf" db sync; }
neutron_database() { neutron-db-manage --config-file "$STATE/etc/neutron.conf" upgrade heads; }

if [ ! -e "$STATE/etc/.databases" ]; then
    for database in keystone glance placement nova_api nova nova_cell0 neutron cinder; do
        sql -e "CREATE DATABASE IF NOT EXISTS $database CHARACTER SET utf8mb3"
    done
    jobs=()
    for which in keystone nova neutron cinder; do
        (set -e; "${which}_database") >"$STATE/log/database-$which.log" 2>&1 &
        jobs+=("$which $!")
    done
    for job in "${jobs[@]}"; do
        read -r which pid <<<"$job"
        wait "$pid" || { tail -n 20 "$STATE/log/database-$which.log"; die "the database of $which cannot be made"; }
    done
    touch "$STATE/etc/.databases"
    say 'databases are made'
fi

# ---- Services.
# PORT PROCESSES THREADS SCRIPT: a WSGI service.
wsgi() {
    echo "/usr/bin/uwsgi_python3 --http-socket $IP:$1 --master --processes $2 --threads $3 --enable-threads \
        --lazy-apps --need-app --die-on-term --thunder-lock --buffer-size 65535 --post-buffering 65536 \
        --disable-logging --add-header Connection:close --wsgi-file $4"
}
# shellcheck disable=SC2046  # The words of a command.
start keystone $(wsgi "$KEYSTONE" 2 4 /usr/bin/keystone-wsgi-public)
# shellcheck disable=SC2046
start placement $(wsgi "$PLACEMENT" 1 8 /usr/bin/placement-api)
start neutron neutron-server --config-file "$STATE/etc/neutron.conf"
wait_for keystone 300 answers "http://$IP:$KEYSTONE/v3"
/usr/bin/python3 "$HERE/python/seed_identity.py" "http://$IP:$KEYSTONE/v3" "$PASSWORD" "$REGION" \
    "nova=compute=http://$IP:$NOVA/v2.1" "glance=image=http://$IP:$GLANCE" \
    "neutron=network=http://$IP:$NEUTRON" "cinder=volumev3=http://$IP:$CINDER/v3/%(project_id)s" \
    "placement=placement=http://$IP:$PLACEMENT"
start glance glance-api --config-file "$STATE/etc/glance-api.conf"
wait_for rabbitmq 300 port_is_open "$AMQP"
for part in conductor scheduler compute api; do
    start "nova-$part" /usr/bin/python3 "$STATE/python/service.py" nova "$part" --config-file "$STATE/etc/nova.conf" \
        --log-file "$STATE/log/nova-$part.log"
done
for part in scheduler volume api; do
    start "cinder-$part" /usr/bin/python3 "$STATE/python/service.py" cinder "$part" --config-file "$STATE/etc/cinder.conf" \
        --log-file "$STATE/log/cinder-$part.log"
done
wait_for placement 300 answers "http://$IP:$PLACEMENT/"
wait_for glance 300 answers "http://$IP:$GLANCE/"
wait_for neutron 300 answers "http://$IP:$NEUTRON/"
wait_for nova-api 300 answers "http://$IP:$NOVA/"
wait_for cinder-api 300 answers "http://$IP:$CINDER/"
say 'all services answer'

export OS_CLIENT_CONFIG_FILE=$STATE/clouds.yaml
/usr/bin/python3 "$HERE/python/seed_cloud.py" "$SUBNET"
wrap openstack python3
find_holder
cat >"$STATE/env" <<ENV
OPENSTACK_CLOUDS=$STATE/clouds.yaml
OPENSTACK_STATE=$STATE
OPENSTACK_CLI=$STATE/bin/openstack
OPENSTACK_PYTHON=$STATE/bin/python3
OPENSTACK_NETNS=/proc/$holder/root/run/netns/$NETNS
CONFORMANCE_THREADS=6
ENV
say "up: OS_CLIENT_CONFIG_FILE=$STATE/clouds.yaml OS_CLOUD=demo"
