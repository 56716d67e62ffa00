//! Who the client is: the peer, unless a ClientTrafficPolicy says whose word counts.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, HeaderName, StatusCode};
use ipnet::IpNet;

use super::Refusal;
use crate::api::envoy;

/// How the client's address is found.
#[derive(Clone, Debug, Default)]
pub(crate) enum Detection {
    /// The peer of the connection: nobody's word is taken.
    #[default]
    Peer,
    /// The n-th address of `x-forwarded-for`, from its right end.
    Hops(usize),
    /// The last address of `x-forwarded-for` that is not one of these networks', if the peer is.
    Trusted(Vec<IpNet>),
    /// A header of its own.
    Header {
        /// Its name.
        name: HeaderName,
        /// Whether requests without a usable one are refused.
        required: bool,
    },
}

pub(crate) const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// A list of networks.
pub(crate) fn networks(list: &[String], at: &str) -> Result<Vec<IpNet>, String> {
    let parse = |(i, text): (usize, &String)| {
        text.parse::<IpNet>()
            .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
            .map_err(|_| format!("{at}[{i}]: {text:?} is not a network such as 10.0.0.0/8"))
    };
    list.iter().enumerate().map(parse).collect()
}

impl Detection {
    pub(crate) fn new(spec: Option<&envoy::ClientIpDetection>, at: &str) -> Result<Self, String> {
        let Some(spec) = spec else {
            return Ok(Self::Peer);
        };
        match (&spec.x_forwarded_for, &spec.custom_header) {
            (Some(_), Some(_)) => Err(format!(
                "{at}: only one of xForwardedFor and customHeader can hold"
            )),
            (Some(forwarded), None) => {
                let networks = networks(
                    &forwarded.trusted_cidrs,
                    &format!("{at}.xForwardedFor.trustedCIDRs"),
                )?;
                match (forwarded.num_trusted_hops, networks.is_empty()) {
                    (Some(_), false) => Err(format!(
                        "{at}.xForwardedFor: only one of numTrustedHops and trustedCIDRs can hold"
                    )),
                    (None | Some(0), true) => Ok(Self::Peer),
                    (Some(hops), true) => Ok(Self::Hops(hops as usize)),
                    (None, false) => Ok(Self::Trusted(networks)),
                }
            }
            (None, Some(header)) => Ok(Self::Header {
                name: header.name.parse().map_err(|_| {
                    format!(
                        "{at}.customHeader.name: {:?} is not the name of a header",
                        header.name
                    )
                })?,
                required: header.fail_closed,
            }),
            (None, None) => Ok(Self::Peer),
        }
    }

    /// Whether the peer of a connection is one whose word about the client counts.
    pub(crate) fn trusts(&self, peer: IpAddr) -> bool {
        match self {
            Self::Peer => false,
            Self::Trusted(networks) => networks.iter().any(|network| network.contains(&peer)),
            // Who configures these says that there is always a proxy in front.
            Self::Hops(_) | Self::Header { .. } => true,
        }
    }

    /// The client's address.
    ///
    /// # Errors
    /// When a header is demanded and there is no usable one.
    pub(crate) fn client(&self, peer: SocketAddr, headers: &HeaderMap) -> Result<IpAddr, Refusal> {
        let peer = peer.ip().to_canonical();
        match self {
            Self::Peer => Ok(peer),
            Self::Hops(hops) => {
                let list = forwarded(headers);
                Ok(list
                    .len()
                    .checked_sub(*hops)
                    .and_then(|i| list[i])
                    .unwrap_or(peer))
            }
            Self::Trusted(networks) => {
                let trusted = |ip: &IpAddr| networks.iter().any(|network| network.contains(ip));
                if !self.trusts(peer) {
                    return Ok(peer);
                }
                let mut client = peer;
                for ip in forwarded(headers).into_iter().rev() {
                    // What is no address ends the chain that can be trusted.
                    let Some(ip) = ip else { break };
                    client = ip;
                    if !trusted(&ip) {
                        break;
                    }
                }
                Ok(client)
            }
            Self::Header { name, required } => {
                let found = headers.get(name).and_then(|value| address(value.to_str().ok()?));
                match found {
                    Some(ip) => Ok(ip),
                    None if *required => Err(Refusal::new(StatusCode::FORBIDDEN, "")),
                    None => Ok(peer),
                }
            }
        }
    }
}

fn forwarded(headers: &HeaderMap) -> Vec<Option<IpAddr>> {
    headers
        .get_all(X_FORWARDED_FOR)
        .iter()
        .flat_map(|value| value.to_str().unwrap_or_default().split(','))
        .map(|text| address(text.trim()))
        .collect()
}

fn address(text: &str) -> Option<IpAddr> {
    let ip = text.parse::<IpAddr>().ok();
    ip.or_else(|| text.parse::<SocketAddr>().ok().map(|with_port| with_port.ip()))
        .map(|ip| ip.to_canonical())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(Detection::Peer, "127.0.0.1", "203.0.113.9", "127.0.0.1")]
    #[case(
        Detection::Hops(2),
        "127.0.0.1",
        "203.0.113.128, 203.0.113.10, 203.0.113.1",
        "203.0.113.10"
    )]
    #[case(Detection::Hops(9), "127.0.0.1", "203.0.113.1", "127.0.0.1")]
    #[case(
        trusted(),
        "127.0.0.1",
        "203.0.113.9, 198.51.100.1, 127.0.0.2",
        "198.51.100.1"
    )]
    #[case(trusted(), "127.0.0.1", "127.0.0.3, 127.0.0.2", "127.0.0.3")]
    #[case(trusted(), "192.0.2.1", "203.0.113.9", "192.0.2.1")]
    #[case(trusted(), "127.0.0.1", "203.0.113.9, nonsense", "127.0.0.1")]
    fn forwarded_addresses_count_as_far_as_they_are_trusted(
        #[case] detection: Detection,
        #[case] peer: &str,
        #[case] forwarded: &str,
        #[case] expected: &str,
    ) {
        let headers = HeaderMap::from_iter([(X_FORWARDED_FOR, forwarded.parse().unwrap())]);
        let peer = SocketAddr::new(peer.parse().unwrap(), 1);
        assert_eq!(
            detection.client(peer, &headers).unwrap(),
            expected.parse::<IpAddr>().unwrap()
        );
    }

    fn trusted() -> Detection {
        Detection::Trusted(vec!["127.0.0.0/8".parse().unwrap()])
    }
}
