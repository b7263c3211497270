//! Transparent proxying: nftables hand connections to aproxy.

use std::net::Ipv4Addr;

use url::{Host, Url};

use super::{Aproxy, Network};
use crate::ProxyConfig;

/// The networks that no proxy of an internet connection serves.
const PRIVATE: [(Ipv4Addr, u8); 5] = [
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
];

/// The proxy that aproxy speaks to.
pub(super) fn upstream(proxy: &ProxyConfig) -> Option<&Url> {
    proxy.http.as_ref().or(proxy.https.as_ref())
}

/// `HOST:PORT`, as aproxy takes it.
pub(super) fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    let port = url.port_or_known_default().unwrap_or(80);
    format!("{host}:{port}")
}

/// The rules. Connections of the instance and those that it forwards for its containers are
/// redirected; what is excluded, and the way to the proxy itself, is not.
pub(super) fn rules(upstream: &Url, config: &Aproxy) -> String {
    let mut exclude: Vec<String> = PRIVATE.map(|(net, len)| format!("{net}/{len}")).into();
    if let Some(Host::Ipv4(address)) = upstream.host() {
        exclude.push(Network::from(address).to_string());
    }
    exclude.extend(config.exclude.iter().map(ToString::to_string));
    let ports: Vec<String> = config.ports.iter().map(ToString::to_string).collect();
    let (exclude, ports, listen) = (exclude.join(", "), ports.join(", "), config.listen);
    let redirect =
        format!("ip daddr != @exclude tcp dport {{ {ports} }} counter redirect to :{listen}");
    format!(
        "#!/usr/sbin/nft -f
table ip runner-manager
delete table ip runner-manager
table ip runner-manager {{
    set exclude {{
        type ipv4_addr
        flags interval
        auto-merge
        elements = {{ {exclude} }}
    }}
    chain prerouting {{
        type nat hook prerouting priority dstnat
        policy accept
        {redirect}
    }}
    chain output {{
        type nat hook output priority -100
        policy accept
        {redirect}
    }}
}}
"
    )
}
