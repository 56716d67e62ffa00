//! Names and addresses outside of the cluster.

use std::{
    collections::BTreeSet,
    io,
    net::{IpAddr, Ipv4Addr},
};

use ipnet::Ipv4Net;
use tokio::time::timeout;

use super::CONNECT;
use crate::agent::Runtime;

/// The addresses of a host, by this machine's resolver, unless somebody said others.
pub(super) async fn resolve(runtime: &Runtime, host: &str) -> io::Result<Vec<IpAddr>> {
    if let Some(address) = runtime.options.hosts.get(host) {
        return Ok(vec![*address]);
    }
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![address]);
    }
    let found = timeout(CONNECT, tokio::net::lookup_host((host, 0)))
        .await?
        .map_err(|error| {
            // The resolver's own codes are not in the error; its text is.
            let text = error.to_string();
            if text.contains("not known")
                || text.contains("No address associated")
                || text.contains("nodename nor servname")
            {
                io::Error::new(io::ErrorKind::NotFound, text)
            } else {
                error
            }
        })?;
    Ok(found.map(|address| address.ip()).collect())
}

/// The addresses of this machine's own interfaces, which a name from outside may lead to as well.
#[cfg(target_os = "linux")]
pub(super) async fn own_addresses() -> io::Result<BTreeSet<IpAddr>> {
    use futures::TryStreamExt;
    use rtnetlink::packet_route::address::AddressAttribute;
    let (connection, handle, _) = rtnetlink::new_connection()?;
    let connection = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(connection));
    let messages: Vec<_> = (handle.address().get().execute().try_collect())
        .await
        .map_err(io::Error::other)?;
    drop(connection);
    let attributes = messages.into_iter().flat_map(|message| message.attributes);
    Ok(attributes
        .filter_map(|attribute| match attribute {
            // What a point-to-point interface has of its own is its local address.
            AddressAttribute::Address(address) | AddressAttribute::Local(address) => Some(address),
            _ => None,
        })
        .collect())
}

#[cfg(not(target_os = "linux"))]
pub(super) async fn own_addresses() -> io::Result<BTreeSet<IpAddr>> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Whether an address is this machine's own (those of its interfaces are `own`), a neighbour's on the link, or of a cell (`pool`): names from
/// outside must not lead there.
pub(super) fn is_inside(pool: &Ipv4Net, own: &BTreeSet<IpAddr>, address: IpAddr) -> bool {
    if own.contains(&address) {
        return true;
    }
    match address {
        IpAddr::V4(address) => is_inside_v4(pool, address),
        IpAddr::V6(address) => match address.to_ipv4_mapped() {
            Some(mapped) => is_inside(pool, own, IpAddr::V4(mapped)),
            None => {
                address.is_loopback()
                    || address.is_unspecified()
                    || address.is_unicast_link_local()
                    || address.is_multicast()
            }
        },
    }
}

fn is_inside_v4(pool: &Ipv4Net, address: Ipv4Addr) -> bool {
    address.is_loopback()
        // Linux takes 0.0.0.0 for itself, and the rest of its network is nobody's.
        || address.octets()[0] == 0
        || address.is_link_local()
        || address.is_multicast()
        || address.is_broadcast()
        || pool.contains(&address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_names_from_outside_may_not_lead_to() {
        let pool = "10.210.0.0/16".parse().unwrap();
        let own: BTreeSet<IpAddr> = ["192.168.1.5", "2001:db8::5"].map(|a| a.parse().unwrap()).into();
        for address in [
            "127.0.0.1",
            "0.0.0.0",
            "0.1.2.3",
            "169.254.169.254",
            "224.0.0.1",
            "255.255.255.255",
            "10.210.3.4",
            "192.168.1.5",
            "::1",
            "::",
            "fe80::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::ffff:192.168.1.5",
            "2001:db8::5",
        ] {
            assert!(is_inside(&pool, &own, address.parse().unwrap()), "{address}");
        }
        for address in ["192.168.1.6", "10.211.0.1", "203.0.113.1", "2001:db8::6"] {
            assert!(!is_inside(&pool, &own, address.parse().unwrap()), "{address}");
        }
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn this_machine_knows_its_own_addresses() {
        let own = own_addresses().await.unwrap();
        assert!(own.contains(&IpAddr::from(Ipv4Addr::LOCALHOST)), "{own:?}");
    }
}
