//! [`RequestInfo`]: the path of a request, taken apart.

use http::Method;

use super::Query;

/// What is to be done, in Kubernetes' words. These are the words that authorization rules use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verb {
    /// Read one object.
    Get,
    /// Read a collection.
    List,
    /// Follow the changes of a collection or object.
    Watch,
    /// Add an object.
    Create,
    /// Replace an object.
    Update,
    /// Change parts of an object.
    Patch,
    /// Delete an object.
    Delete,
    /// Delete every selected object of a collection.
    DeleteCollection,
    /// A method that Kubernetes has no verb for.
    Other,
}

impl Verb {
    /// The word as it appears in messages and rules.
    pub fn as_str(self) -> &'static str {
        match self {
            Verb::Get => "get",
            Verb::List => "list",
            Verb::Watch => "watch",
            Verb::Create => "create",
            Verb::Update => "update",
            Verb::Patch => "patch",
            Verb::Delete => "delete",
            Verb::DeleteCollection => "deletecollection",
            Verb::Other => "",
        }
    }

    /// Whether the verb leaves the objects as they are.
    pub fn is_read_only(self) -> bool {
        matches!(self, Verb::Get | Verb::List | Verb::Watch)
    }
}

/// A request's path, method and query in Kubernetes' terms.
///
/// `cluster` is the logical cluster of a path `/clusters/<name>/...`; everything else is read from the path behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestInfo {
    /// The logical cluster that the path names; none for the default one.
    pub cluster: Option<String>,
    /// The path behind the cluster prefix, always starting with `/`.
    pub path: String,
    /// Whether the path addresses a resource (`/api/v1/...`, `/apis/<group>/<version>/...`) rather than, say, `/healthz`.
    pub is_resource: bool,
    /// What is asked.
    pub verb: Verb,
    /// The API group; empty for the core group.
    pub group: String,
    /// The API version.
    pub version: String,
    /// The namespace; empty for cluster-scoped objects and for collections over all namespaces.
    pub namespace: String,
    /// The plural resource name.
    pub resource: String,
    /// The subresource, or empty. Everything behind it (`proxy/<path>`) is in [`RequestInfo::rest`].
    pub subresource: String,
    /// The object's name, or empty for a collection.
    pub name: String,
    /// Path segments behind the subresource.
    pub rest: Vec<String>,
}

impl RequestInfo {
    /// The logical cluster that a path names.
    pub fn cluster_of(path: &str) -> Option<String> {
        split_cluster(path).0
    }

    /// Whether the answer lasts as long as the client wants it to, as kube-apiserver counts: watches, logs, and connections.
    pub fn is_long_running(&self) -> bool {
        self.verb == Verb::Watch
            || matches!(
                self.subresource.as_str(),
                "attach" | "exec" | "log" | "portforward" | "proxy"
            )
    }

    /// Reads a request line. Never fails: what is no resource path is a plain path.
    pub fn parse(method: &Method, path: &str, query: &Query) -> RequestInfo {
        let (cluster, path) = split_cluster(path);
        let mut info = RequestInfo {
            cluster,
            path: path.to_owned(),
            is_resource: false,
            verb: Verb::Other,
            group: String::new(),
            version: String::new(),
            namespace: String::new(),
            resource: String::new(),
            subresource: String::new(),
            name: String::new(),
            rest: Vec::new(),
        };
        let mut parts: Vec<String> = path.split('/').skip(1).map(decode).collect();
        // A trailing slash addresses the same thing.
        if parts.last().is_some_and(String::is_empty) {
            parts.pop();
        }
        let mut parts = parts.into_iter();
        match parts.next().as_deref() {
            Some("api") => {}
            Some("apis") => match parts.next() {
                Some(group) => info.group = group,
                None => return info,
            },
            _ => return info,
        }
        let Some(version) = parts.next() else { return info };
        info.version = version;
        let mut parts: Vec<String> = parts.collect();
        if parts.is_empty() || parts.iter().any(String::is_empty) {
            return info;
        }
        info.is_resource = true;

        // `/watch/` in front of the resource is the old way to write `?watch=true`; clients still use it.
        let mut old_watch = false;
        if parts.len() > 1 && parts[0] == "watch" {
            parts.remove(0);
            old_watch = true;
        }
        // `namespaces/<ns>/<resource>` is scoped, `namespaces/<ns>` and its own subresources are about the namespace.
        if parts[0] == "namespaces" && parts.len() > 1 {
            info.namespace = parts[1].clone();
            if parts.len() > 2
                && !(info.group.is_empty() && matches!(parts[2].as_str(), "status" | "finalize"))
            {
                parts.drain(..2);
            }
        }
        let mut parts = parts.into_iter();
        info.resource = parts.next().unwrap_or_default();
        info.name = parts.next().unwrap_or_default();
        info.subresource = parts.next().unwrap_or_default();
        info.rest = parts.collect();
        if info.resource == "namespaces" {
            info.namespace.clear();
        }
        info.verb = verb(method, &info.name, old_watch, query);
        info
    }
}

fn verb(method: &Method, name: &str, old_watch: bool, query: &Query) -> Verb {
    let collection = name.is_empty();
    match *method {
        Method::GET | Method::HEAD if old_watch || query.flag("watch") => Verb::Watch,
        Method::GET | Method::HEAD if collection => Verb::List,
        Method::GET | Method::HEAD => Verb::Get,
        Method::POST => Verb::Create,
        Method::PUT => Verb::Update,
        Method::PATCH => Verb::Patch,
        Method::DELETE if collection => Verb::DeleteCollection,
        Method::DELETE => Verb::Delete,
        _ => Verb::Other,
    }
}

fn split_cluster(path: &str) -> (Option<String>, &str) {
    let Some(rest) = path.strip_prefix("/clusters/") else {
        return (None, path);
    };
    match rest.find('/') {
        Some(end) => (Some(decode(&rest[..end])), &rest[end..]),
        None => (Some(decode(rest)), "/"),
    }
}

/// Percent-decoding of one path segment; what is not valid stays as it is.
fn decode(segment: &str) -> String {
    if !segment.contains('%') {
        return segment.to_owned();
    }
    let bytes = segment.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        let hex = bytes.get(i + 1..i + 3).and_then(|h| std::str::from_utf8(h).ok());
        match hex.and_then(|h| u8::from_str_radix(h, 16).ok()) {
            Some(byte) if bytes[i] == b'%' => {
                out.push(byte);
                i += 3;
            }
            _ => {
                out.push(bytes[i]);
                i += 1;
            }
        }
    }
    String::from_utf8(out).unwrap_or_else(|_| segment.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(method: &str, path: &str) -> RequestInfo {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        RequestInfo::parse(&method.parse().unwrap(), path, &Query::parse(query))
    }

    #[test]
    fn resource_paths() {
        for (method, path, expected) in [
            ("GET", "/api/v1/namespaces", "list|||v1||namespaces||"),
            ("GET", "/api/v1/namespaces/a", "get|||v1||namespaces||a"),
            (
                "PUT",
                "/api/v1/namespaces/a/finalize",
                "update|||v1||namespaces|finalize|a",
            ),
            (
                "PUT",
                "/api/v1/namespaces/a/status",
                "update|||v1||namespaces|status|a",
            ),
            ("POST", "/api/v1/namespaces/a/pods", "create|||v1|a|pods||"),
            (
                "POST",
                "/api/v1/namespaces/a/pods/b/binding",
                "create|||v1|a|pods|binding|b",
            ),
            ("GET", "/api/v1/watch/pods", "watch|||v1||pods||"),
            ("GET", "/api/v1/watch/namespaces/a/pods/x", "watch|||v1|a|pods||x"),
            ("GET", "/api/v1/pods?watch=1", "watch|||v1||pods||"),
            ("GET", "/api/v1/pods?watch=false", "list|||v1||pods||"),
            (
                "DELETE",
                "/apis/apps/v1/namespaces/a/deployments",
                "deletecollection||apps|v1|a|deployments||",
            ),
            (
                "PATCH",
                "/apis/apps/v1/namespaces/a/deployments/d/scale",
                "patch||apps|v1|a|deployments|scale|d",
            ),
            (
                "GET",
                "/clusters/local/apis/apps/v1/deployments/",
                "list|local|apps|v1||deployments||",
            ),
            (
                "GET",
                "/apis/apps/v1/namespaces/a/status",
                "list||apps|v1|a|status||",
            ),
            (
                "GET",
                "/api/v1/namespaces/a/configmaps/x%3Ay",
                "get|||v1|a|configmaps||x:y",
            ),
        ] {
            let i = parse(method, path);
            assert!(i.is_resource, "{path}");
            let seen = format!(
                "{}|{}|{}|{}|{}|{}|{}|{}",
                i.verb.as_str(),
                i.cluster.unwrap_or_default(),
                i.group,
                i.version,
                i.namespace,
                i.resource,
                i.subresource,
                i.name
            );
            assert_eq!(seen, expected, "{method} {path}");
        }
    }

    #[test]
    fn other_paths() {
        for path in [
            "/",
            "/api",
            "/api/v1",
            "/apis",
            "/apis/apps",
            "/apis/apps/v1",
            "/healthz",
            "/clusters/local",
            "/version",
        ] {
            assert!(!parse("GET", path).is_resource, "{path}");
        }
        assert_eq!(parse("GET", "/clusters/local").path, "/");
        assert_eq!(parse("GET", "/clusters/local/healthz").path, "/healthz");
    }
}
