//! What has which address: Services, and what else may be reached from the cell.

use std::{
    collections::{BTreeMap, HashMap},
    net::Ipv4Addr,
};

use ipnet::Ipv4Net;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::protocol::{Config, DOMAIN, Destination, Service};

/// How long an address outlives the last question for it. Clients are told to ask again after a few seconds.
const KEPT: std::time::Duration = std::time::Duration::from_secs(900);

/// What the relay knows of a name by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// These are its addresses; it is there even if there are none.
    Addresses(Vec<Ipv4Addr>),
    /// It stands for another name.
    Alias(String),
    /// It is of the cluster, and nothing.
    Nothing,
    /// The agent must be asked, for this name.
    Ask(String),
}

/// What an address stands for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
    Own(String),
    Other(Destination),
}

#[derive(Default)]
struct Inner {
    namespace: String,
    services: BTreeMap<String, Service>,
    taken: HashMap<Key, Ipv4Addr>,
    owners: HashMap<Ipv4Addr, (Key, Instant)>,
}

pub(super) struct Names {
    /// The relay's own, which is of the range as well.
    address: Ipv4Addr,
    range: Ipv4Net,
    inner: Mutex<Inner>,
}

impl Names {
    pub(super) fn new(address: Ipv4Addr, range: Ipv4Net) -> Self {
        Self {
            address,
            range,
            inner: Mutex::default(),
        }
    }

    pub(super) fn configure(&self, config: &Config) {
        let mut inner = self.inner.lock();
        inner.namespace = config.namespace.clone();
        inner.services = config
            .services
            .iter()
            .map(|service| (service.name.clone(), service.clone()))
            .collect();
        let gone: Vec<Key> = inner
            .taken
            .keys()
            .filter(|key| matches!(key, Key::Own(name) if !inner.services.contains_key(name)))
            .cloned()
            .collect();
        for key in gone {
            if let Some(address) = inner.taken.remove(&key) {
                inner.owners.remove(&address);
            }
        }
    }

    /// The address of a Service of the cell.
    pub(super) fn own(&self, service: &str) -> Option<Ipv4Addr> {
        self.address_of(&Key::Own(service.to_owned()))
    }

    /// The address that stands for something outside of the cell. `None` when none is left.
    pub(super) fn other(&self, destination: &Destination) -> Option<Ipv4Addr> {
        self.address_of(&Key::Other(destination.clone()))
    }

    fn address_of(&self, key: &Key) -> Option<Ipv4Addr> {
        let mut inner = self.inner.lock();
        let now = Instant::now();
        if let Some(address) = inner.taken.get(key).copied() {
            inner.owners.insert(address, (key.clone(), now));
            return Some(address);
        }
        let hosts: Vec<Ipv4Addr> = self.range.hosts().filter(|host| *host != self.address).collect();
        // Where a name comes to lie depends on itself, so that a new relay gives most of them the addresses that the old one gave.
        let start = hash(key) % hosts.len().max(1);
        let mut around = hosts.iter().skip(start).chain(hosts.iter().take(start)).copied();
        let free = around.clone().find(|host| !inner.owners.contains_key(host));
        let address = free.or_else(|| {
            around.find(|host| {
                inner.owners.get(host).is_some_and(|(key, asked)| {
                    matches!(key, Key::Other(_)) && now.duration_since(*asked) > KEPT
                })
            })
        })?;
        if let Some((before, _)) = inner.owners.insert(address, (key.clone(), now)) {
            inner.taken.remove(&before);
        }
        inner.taken.insert(key.clone(), address);
        Some(address)
    }

    /// What a name is, as far as the cell's own objects say. The name is in lower case and has no dot at its end.
    pub(super) fn look(&self, name: &str) -> Known {
        let inner = self.inner.lock();
        let namespace = inner.namespace.clone();
        let short = match name.strip_suffix(DOMAIN).map(|rest| rest.strip_suffix('.')) {
            Some(Some(rest)) => match rest.strip_suffix(".svc") {
                Some(short) => short.to_owned(),
                None => return Known::Nothing,
            },
            Some(None) => return Known::Nothing,
            None => match name.strip_suffix(".svc") {
                Some(short) => short.to_owned(),
                // Without a domain, only what is there is a Service's name.
                None => {
                    let labels: Vec<&str> = name.split('.').collect();
                    return match labels.as_slice() {
                        [service] if inner.services.contains_key(*service) => {
                            drop(inner);
                            self.service(service, None)
                        }
                        [service, space] if *space == namespace && inner.services.contains_key(*service) => {
                            drop(inner);
                            self.service(service, None)
                        }
                        _ => Known::Ask(name.to_owned()),
                    };
                }
            },
        };
        drop(inner);
        let labels: Vec<&str> = short.split('.').collect();
        match labels.as_slice() {
            [service, space] if *space == namespace => self.service(service, None),
            [host, service, space] if *space == namespace => self.service(service, Some(host)),
            [_, _] | [_, _, _] => Known::Ask(format!("{short}.svc.{DOMAIN}")),
            _ => Known::Nothing,
        }
    }

    fn service(&self, name: &str, host: Option<&str>) -> Known {
        let Some(service) = self.inner.lock().services.get(name).cloned() else {
            return Known::Nothing;
        };
        match (host, &service.external_name) {
            (Some(host), _) => service
                .hostnames
                .get(host)
                .map_or(Known::Nothing, |address| Known::Addresses(vec![*address])),
            (None, Some(other)) => Known::Alias(other.trim_end_matches('.').to_ascii_lowercase()),
            (None, None) if service.headless => Known::Addresses(service.addresses.iter().copied().collect()),
            (None, None) => Known::Addresses(self.own(name).into_iter().collect()),
        }
    }
}

/// FNV-1a: the same everywhere and always.
fn hash(key: &Key) -> usize {
    let text = match key {
        Key::Own(name) => name.clone(),
        Key::Other(Destination::Host(host)) => format!("host {host}"),
        Key::Other(Destination::Service { namespace, name }) => format!("service {namespace} {name}"),
    };
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    usize::try_from(hash >> 33).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Names {
        let names = Names::new(Ipv4Addr::new(10, 210, 0, 129), "10.210.0.128/29".parse().unwrap());
        let service = |name: &str| Service {
            name: name.to_owned(),
            ..Service::default()
        };
        let headless = Service {
            headless: true,
            addresses: [Ipv4Addr::new(10, 210, 0, 2), Ipv4Addr::new(10, 210, 0, 3)].into(),
            hostnames: [("db-0".to_owned(), Ipv4Addr::new(10, 210, 0, 2))].into(),
            ..service("db")
        };
        let alias = Service {
            external_name: Some("api.example.com.".to_owned()),
            ..service("partner")
        };
        names.configure(&Config {
            namespace: "shop".into(),
            services: vec![service("web"), headless, alias],
        });
        names
    }

    #[test]
    fn a_service_has_four_names_and_one_address() {
        let names = names();
        let first = names.look("web");
        let Known::Addresses(addresses) = &first else {
            panic!("{first:?}");
        };
        assert_eq!(addresses.len(), 1);
        assert!(names.range.contains(&addresses[0]) && addresses[0] != names.address);
        for name in ["web.shop", "web.shop.svc", "web.shop.svc.cluster.local"] {
            assert_eq!(names.look(name), first, "{name}");
        }
    }

    #[test]
    fn names_of_other_kinds() {
        let names = names();
        let both = vec![Ipv4Addr::new(10, 210, 0, 2), Ipv4Addr::new(10, 210, 0, 3)];
        assert_eq!(
            names.look("db.shop.svc.cluster.local"),
            Known::Addresses(both.clone())
        );
        assert_eq!(
            names.look("db-0.db.shop.svc.cluster.local"),
            Known::Addresses(vec![both[0]])
        );
        assert_eq!(names.look("db-9.db.shop.svc.cluster.local"), Known::Nothing);
        assert_eq!(names.look("partner"), Known::Alias("api.example.com".into()));
        assert_eq!(names.look("none.shop.svc.cluster.local"), Known::Nothing);
        assert_eq!(
            names.look("api.example.com.shop.svc.cluster.local"),
            Known::Nothing
        );
        assert_eq!(names.look("api.example.com.cluster.local"), Known::Nothing);
        assert_eq!(
            names.look("api.example.com"),
            Known::Ask("api.example.com".into())
        );
        assert_eq!(
            names.look("web.other.svc"),
            Known::Ask("web.other.svc.cluster.local".into())
        );
    }

    #[test]
    fn addresses_are_given_until_there_is_none_left() {
        let names = names();
        let hosts: Vec<_> = (0..8)
            .map(|n| Destination::Host(format!("host-{n}.example.com")))
            .collect();
        let given: Vec<_> = hosts.iter().filter_map(|host| names.other(host)).collect();
        // Of six, the relay has one itself.
        assert_eq!(given.len(), 5);
        assert_eq!(names.other(&hosts[0]), Some(given[0]), "and it keeps it");
        let other = super::Names::new(names.address, names.range);
        assert_eq!(other.other(&hosts[0]), Some(given[0]), "also in a new relay");
    }
}
