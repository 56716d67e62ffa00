//! IP addresses, networks and URLs.

use std::net::IpAddr;
use std::rc::Rc;

use ipnet::IpNet;

use super::{Function, Result, global, member, text};
use crate::error::EvalError;
use crate::value::{Key, Val};

pub(super) const FUNCTIONS: &[Function] = &[
    global("ip", 1, "net.IP", |_, args| {
        Ok(Val::Ip(parse_ip(text(&args[0])?)?))
    }),
    global("isIP", 1, "bool", |_, args| {
        Ok(Val::Bool(parse_ip(text(&args[0])?).is_ok()))
    }),
    global("ip.isCanonical", 1, "bool", |_, args| {
        let s = text(&args[0])?;
        Ok(Val::Bool(parse_ip(s)?.to_string() == s))
    }),
    member("family", 1, "int", |_, args| {
        Ok(Val::Int(if address(&args[0])?.is_ipv4() { 4 } else { 6 }))
    }),
    member("isUnspecified", 1, "bool", |_, args| {
        Ok(Val::Bool(address(&args[0])?.is_unspecified()))
    }),
    member("isLoopback", 1, "bool", |_, args| {
        Ok(Val::Bool(address(&args[0])?.is_loopback()))
    }),
    member("isLinkLocalMulticast", 1, "bool", |_, args| {
        Ok(Val::Bool(match address(&args[0])? {
            IpAddr::V4(ip) => ip.octets()[..3] == [224, 0, 0],
            IpAddr::V6(ip) => ip.segments()[0] & 0xff0f == 0xff02,
        }))
    }),
    member("isLinkLocalUnicast", 1, "bool", |_, args| {
        Ok(Val::Bool(is_link_local(address(&args[0])?)))
    }),
    member("isGlobalUnicast", 1, "bool", |_, args| {
        let ip = address(&args[0])?;
        let broadcast = matches!(ip, IpAddr::V4(v4) if v4.is_broadcast());
        Ok(Val::Bool(
            !broadcast
                && !ip.is_unspecified()
                && !ip.is_loopback()
                && !ip.is_multicast()
                && !is_link_local(ip),
        ))
    }),
    global("cidr", 1, "net.CIDR", |_, args| {
        Ok(Val::Cidr(parse_cidr(text(&args[0])?)?))
    }),
    global("isCIDR", 1, "bool", |_, args| {
        Ok(Val::Bool(parse_cidr(text(&args[0])?).is_ok()))
    }),
    member("containsIP", 2, "bool", |_, args| {
        let ip = match &args[1] {
            Val::Ip(ip) => *ip,
            other => parse_ip(text(other)?)?,
        };
        Ok(Val::Bool(network(&args[0])?.contains(&ip)))
    }),
    member("containsCIDR", 2, "bool", |_, args| {
        let inner = match &args[1] {
            Val::Cidr(cidr) => *cidr,
            other => parse_cidr(text(other)?)?,
        };
        Ok(Val::Bool(network(&args[0])?.contains(&inner)))
    }),
    member("ip", 1, "net.IP", |_, args| {
        Ok(Val::Ip(network(&args[0])?.addr()))
    }),
    member("prefixLength", 1, "int", |_, args| {
        Ok(Val::Int(i64::from(network(&args[0])?.prefix_len())))
    }),
    member("masked", 1, "net.CIDR", |_, args| {
        Ok(Val::Cidr(network(&args[0])?.trunc()))
    }),
    global("url", 1, "kubernetes.URL", |_, args| {
        let s = text(&args[0])?;
        Url::parse(s).map(|u| Val::Url(Rc::new(u))).ok_or_else(|| {
            EvalError::other(format!(
                "URL parse error during conversion from string: parse \"{s}\": invalid URI for request"
            ))
        })
    }),
    global("isURL", 1, "bool", |_, args| {
        Ok(Val::Bool(Url::parse(text(&args[0])?).is_some()))
    }),
    member("getScheme", 1, "string", |_, args| part(args, |u| &u.scheme)),
    member("getHost", 1, "string", |_, args| part(args, |u| &u.host)),
    member("getHostname", 1, "string", |_, args| {
        part(args, |u| u.split_host().0)
    }),
    member("getPort", 1, "string", |_, args| part(args, |u| u.split_host().1)),
    member("getEscapedPath", 1, "string", |_, args| part(args, |u| &u.path)),
    member("getQuery", 1, "map", |_, args| {
        let mut query: std::collections::BTreeMap<Key, Vec<Val<'_>>> = std::collections::BTreeMap::new();
        for pair in url(&args[0])?
            .query
            .split('&')
            .filter(|p| !p.is_empty() && !p.contains(';'))
        {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            if let (Some(key), Some(value)) = (query_text(key), query_text(value)) {
                query
                    .entry(Key::String(key.into()))
                    .or_default()
                    .push(Val::string(value));
            }
        }
        Ok(Val::Map(Rc::new(
            query.into_iter().map(|(k, v)| (k, Val::list(v))).collect(),
        )))
    }),
];

fn address(value: &Val<'_>) -> Result<IpAddr> {
    match value {
        Val::Ip(ip) => Ok(*ip),
        _ => Err(EvalError::no_such_overload()),
    }
}

fn network(value: &Val<'_>) -> Result<IpNet> {
    match value {
        Val::Cidr(cidr) => Ok(*cidr),
        _ => Err(EvalError::no_such_overload()),
    }
}

fn url<'r>(value: &'r Val<'_>) -> Result<&'r Url> {
    match value {
        Val::Url(url) => Ok(url),
        _ => Err(EvalError::no_such_overload()),
    }
}

fn part<'a>(args: &[Val<'a>], get: fn(&Url) -> &str) -> Result<Val<'a>> {
    Ok(Val::string(get(url(&args[0])?)))
}

fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.segments()[0] & 0xffc0 == 0xfe80,
    }
}

fn parse_ip(s: &str) -> Result<IpAddr> {
    match s.parse::<IpAddr>() {
        Ok(IpAddr::V6(ip)) if ip.to_ipv4_mapped().is_some() => Err(EvalError::other(format!(
            "IPv4-mapped IPv6 address \"{s}\" is not allowed"
        ))),
        Ok(ip) => Ok(ip),
        Err(_) if s.contains('%') => Err(EvalError::other(format!(
            "IP address \"{s}\" with zone value is not allowed"
        ))),
        Err(_) => Err(EvalError::other(format!(
            "IP Address \"{s}\" parse error during conversion from string: ParseAddr(\"{s}\"): unable to parse IP"
        ))),
    }
}

fn parse_cidr(s: &str) -> Result<IpNet> {
    let error = || {
        EvalError::other(format!(
            "network address parse error during conversion from string: \"{s}\""
        ))
    };
    if !s.contains('/') {
        return Err(error());
    }
    match s.parse::<IpNet>() {
        Ok(IpNet::V6(net)) if net.addr().to_ipv4_mapped().is_some() => Err(EvalError::other(format!(
            "IPv4-mapped IPv6 address \"{s}\" is not allowed"
        ))),
        Ok(net) => Ok(net),
        Err(_) => Err(error()),
    }
}

/// An absolute URI or an absolute path, taken apart but not changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Url {
    pub(crate) source: String,
    scheme: String,
    host: String,
    path: String,
    query: String,
}

impl Url {
    fn parse(s: &str) -> Option<Self> {
        if s.bytes().any(|b| b < 0x20 || b == 0x7f) {
            return None;
        }
        let (scheme, rest) = if s.starts_with('/') {
            ("", s)
        } else {
            let (scheme, rest) = s.split_once(':')?;
            let sound = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
                && scheme
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'));
            if !sound {
                return None;
            }
            (scheme, rest)
        };
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (host, path) = match rest.strip_prefix("//").filter(|_| !scheme.is_empty()) {
            Some(authority) => {
                let end = authority.find('/').unwrap_or(authority.len());
                let (authority, path) = authority.split_at(end);
                (authority.rsplit('@').next().unwrap_or(authority), path)
            }
            None => ("", rest),
        };
        let escapes_sound = |part: &str| {
            part.match_indices('%').all(|(i, _)| {
                part.as_bytes()
                    .get(i + 1..i + 3)
                    .is_some_and(|d| d.iter().all(u8::is_ascii_hexdigit))
            })
        };
        if host.contains(' ') || !escapes_sound(path) {
            return None;
        }
        let url = Self {
            source: s.to_owned(),
            scheme: scheme.to_ascii_lowercase(),
            host: host.to_owned(),
            path: path.replace(' ', "%20"),
            query: query.to_owned(),
        };
        let port = url.split_host().1;
        let brackets_sound = host.starts_with('[') == host.contains(']');
        (brackets_sound && port.bytes().all(|b| b.is_ascii_digit())).then_some(url)
    }

    /// Host name without brackets, and port.
    fn split_host(&self) -> (&str, &str) {
        if let Some(rest) = self.host.strip_prefix('[') {
            let (name, after) = rest.split_once(']').unwrap_or((rest, ""));
            return (name, after.strip_prefix(':').unwrap_or(""));
        }
        self.host.split_once(':').unwrap_or((&self.host, ""))
    }
}

/// A query's key or value with its escapes resolved.
fn query_text(s: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(s.len());
    let mut input = s.bytes();
    while let Some(b) = input.next() {
        bytes.push(match b {
            b'+' => b' ',
            b'%' => {
                let high = char::from(input.next()?).to_digit(16)?;
                let low = char::from(input.next()?).to_digit(16)?;
                u8::try_from(high * 16 + low).ok()?
            }
            b => b,
        });
    }
    String::from_utf8(bytes).ok()
}

/// Whether a text is an absolute URI or an absolute path.
pub(crate) fn is_url(s: &str) -> bool {
    Url::parse(s).is_some()
}
