//! From a Pod's container to what the engine is asked to make.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use k8s_openapi::api::core::v1::{Container, Pod, PodSecurityContext, SecurityContext};

use super::{
    env::{self, Sources},
    state::Sandbox,
    volumes::{Volumes, folder, make_folder},
};
use crate::agent::{
    Runtime,
    cell::Cell,
    engine::{ContainerSpec, Image, Mount, MountSource, NetworkMode},
    labels::{self, Role},
    quantity, relay_image,
};
use crate::relay::protocol::DOMAIN;

/// How much of a termination message counts.
const MESSAGE_LIMIT: u64 = 4096;

/// The name that the containers of a Pod see themselves under.
pub(super) fn hostname(pod: &Pod) -> String {
    let said = pod.spec.as_ref().and_then(|spec| spec.hostname.clone());
    let name = said.or_else(|| pod.metadata.name.clone()).unwrap_or_default();
    name.get(..63)
        .unwrap_or(&name)
        .trim_end_matches(['-', '.'])
        .to_owned()
}

/// The container that owns a Pod's network.
pub(super) fn sandbox(
    runtime: &Runtime,
    pod: &Pod,
    cell: &Cell,
    image: String,
    attempt: u32,
) -> ContainerSpec {
    ContainerSpec {
        name: labels::container_name(&runtime.instance, pod, labels::SANDBOX, attempt),
        image,
        labels: labels::of_pod(&runtime.instance, pod, labels::SANDBOX, attempt, Role::SANDBOX),
        entrypoint: Some(vec![relay_image::PROGRAM.into()]),
        command: Some(vec!["pause".into()]),
        user: Some("65535:65535".into()),
        hostname: Some(hostname(pod)),
        network: NetworkMode::Network(cell.network.clone(), None),
        ipc_of: Some(String::new()),
        capabilities_drop: vec!["ALL".into()],
        no_new_privileges: true,
        read_only_root: true,
        // As with other container runtimes of Kubernetes, so that nobody needs root to listen on port 80.
        sysctls: [("net.ipv4.ip_unprivileged_port_start".to_owned(), "0".to_owned())].into(),
        ..ContainerSpec::default()
    }
}

/// Writes the files that tell a Pod's containers who and where they are.
pub(super) fn write_identity(runtime: &Runtime, pod: &Pod, cell: &Cell, sandbox: &Sandbox) -> io::Result<()> {
    let folder = folder(runtime, pod.metadata.uid.as_deref().unwrap_or_default());
    make_folder(&folder, 0o700)?;
    let spec = pod.spec.clone().unwrap_or_default();
    let name = hostname(pod);
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let mut hosts = String::from(
        "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n",
    );
    let address = sandbox.address;
    match spec
        .subdomain
        .as_deref()
        .filter(|subdomain| !subdomain.is_empty())
    {
        Some(subdomain) => {
            hosts.push_str(&format!(
                "{address}\t{name}.{subdomain}.{namespace}.svc.{DOMAIN}\t{name}\n"
            ));
        }
        None => hosts.push_str(&format!("{address}\t{name}\n")),
    }
    for alias in spec.host_aliases.iter().flatten() {
        let names = alias.hostnames.clone().unwrap_or_default().join("\t");
        hosts.push_str(&format!("{}\t{names}\n", alias.ip));
    }
    let mut servers = vec![cell.relay.to_string()];
    let mut search = vec![
        format!("{namespace}.svc.{DOMAIN}"),
        format!("svc.{DOMAIN}"),
        DOMAIN.to_owned(),
    ];
    let mut options: BTreeMap<String, Option<String>> = [("ndots".to_owned(), Some("5".to_owned()))].into();
    if spec.dns_policy.as_deref() == Some("None") {
        servers.clear();
        search.clear();
        options.clear();
    }
    if let Some(own) = &spec.dns_config {
        servers.extend(own.nameservers.iter().flatten().cloned());
        search.extend(own.searches.iter().flatten().cloned());
        let more = own.options.iter().flatten();
        options.extend(more.filter_map(|option| Some((option.name.clone()?, option.value.clone()))));
    }
    let mut resolv = String::new();
    for server in servers.iter().take(3) {
        resolv.push_str(&format!("nameserver {server}\n"));
    }
    if !search.is_empty() {
        resolv.push_str(&format!("search {}\n", search.join(" ")));
    }
    if !options.is_empty() {
        let options = options.into_iter().map(|(name, value)| match value {
            Some(value) => format!("{name}:{value}"),
            None => name,
        });
        resolv.push_str(&format!("options {}\n", options.collect::<Vec<_>>().join(" ")));
    }
    for (file, text) in [("hosts", hosts), ("resolv.conf", resolv)] {
        let path = folder.join(file);
        fs::write(&path, text)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644))?;
    }
    Ok(())
}

/// The file on the host that a container writes its last words into.
fn message_file(runtime: &Runtime, pod: &Pod, container: &str, attempt: u32) -> PathBuf {
    folder(runtime, pod.metadata.uid.as_deref().unwrap_or_default())
        .join("messages")
        .join(format!("{container}.{attempt}"))
}

/// What a container has left as its last words.
pub(super) fn message(runtime: &Runtime, pod: &Pod, container: &str, attempt: u32) -> Option<String> {
    let path = message_file(runtime, pod, container, attempt);
    // The container could have put anything there.
    let is_file = fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_file());
    let bytes = is_file.then(|| end_of(&path).ok()).flatten()?;
    Some(String::from_utf8_lossy(&bytes).into_owned()).filter(|text| !text.is_empty())
}

/// The last bytes of a file, however long it is.
fn end_of(path: &Path) -> io::Result<Vec<u8>> {
    use io::{Read, Seek};
    let mut file = fs::File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(io::SeekFrom::Start(length.saturating_sub(MESSAGE_LIMIT)))?;
    let mut bytes = Vec::new();
    file.take(MESSAGE_LIMIT).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Everything that a container is made from.
pub(super) struct Request<'a> {
    pub(super) runtime: &'a Runtime,
    pub(super) pod: &'a Arc<Pod>,
    pub(super) container: &'a Container,
    pub(super) image: &'a Image,
    pub(super) sandbox: &'a Sandbox,
    pub(super) volumes: &'a Volumes,
    pub(super) sources: &'a Sources<'a>,
    pub(super) attempt: u32,
}

impl Request<'_> {
    /// What the engine is asked for, and the names of variables that were left out.
    ///
    /// # Errors
    /// What is wrong or missing: the message of `CreateContainerConfigError`.
    pub(super) fn build(&self) -> Result<(ContainerSpec, Vec<String>), String> {
        let (runtime, pod, container) = (self.runtime, self.pod, self.container);
        let (mut variables, invalid) = env::variables(self.sources, container)?;
        if !variables.iter().any(|(name, _)| name == "HOSTNAME") {
            variables.insert(0, ("HOSTNAME".to_owned(), hostname(pod)));
        }
        let known: BTreeMap<String, String> = variables.iter().cloned().collect();
        let words = |words: &Option<Vec<String>>| {
            words.as_ref().filter(|words| !words.is_empty()).map(|words| {
                words
                    .iter()
                    .map(|word| env::expand(word, &known))
                    .collect::<Vec<_>>()
            })
        };
        let spec = pod.spec.clone().unwrap_or_default();
        let own = container.security_context.clone().unwrap_or_default();
        let of_pod = spec.security_context.clone().unwrap_or_default();
        let user = user(pod, container, &own, &of_pod, self.image)?;
        let (entrypoint, args) = (words(&container.command), words(&container.args));
        let command = match (&entrypoint, args) {
            (_, Some(args)) => Some(args),
            // An own command goes without the image's arguments.
            (Some(_), None) => Some(Vec::new()),
            (None, None) => None,
        };
        let mut mounts = self.volumes.mounts(container, &known)?;
        mounts.extend(
            self.identity(&mounts, container)
                .map_err(|error| error.to_string())?,
        );
        let capabilities = own.capabilities.clone().unwrap_or_default();
        let plain = |names: Option<Vec<String>>| -> Vec<String> {
            let names = names.unwrap_or_default().into_iter();
            names
                .map(|name| name.strip_prefix("CAP_").map_or(name.clone(), str::to_owned))
                .collect()
        };
        let seccomp = own.seccomp_profile.as_ref().or(of_pod.seccomp_profile.as_ref());
        let resources = container.resources.clone().unwrap_or_default();
        let amount = |map: &Option<BTreeMap<String, _>>, name: &str| {
            let quantity: Option<&k8s_openapi::apimachinery::pkg::api::resource::Quantity> =
                map.as_ref().and_then(|map| map.get(name));
            quantity
                .and_then(|quantity| quantity::milli(&quantity.0))
                .filter(|amount| *amount > 0)
        };
        let mut labels = labels::of_pod(
            &runtime.instance,
            pod,
            &container.name,
            self.attempt,
            Role::CONTAINER,
        );
        labels.insert(
            labels::IMAGE.to_owned(),
            container.image.clone().unwrap_or_default(),
        );
        let groups = of_pod
            .supplemental_groups
            .iter()
            .flatten()
            .chain(&of_pod.fs_group);
        let sandbox = &self.sandbox.id;
        let limited = runtime.limits.resources.read().is_none();
        let spec = ContainerSpec {
            name: labels::container_name(&runtime.instance, pod, &container.name, self.attempt),
            image: self.image.id.clone(),
            labels,
            entrypoint,
            command,
            env: variables
                .into_iter()
                .map(|(name, value)| format!("{name}={value}"))
                .collect(),
            working_dir: container.working_dir.clone().filter(|folder| !folder.is_empty()),
            user,
            groups: groups.map(ToString::to_string).collect(),
            hostname: None,
            network: NetworkMode::Container(sandbox.clone()),
            ipc_of: Some(sandbox.clone()),
            pid_of: (spec.share_process_namespace == Some(true)).then(|| sandbox.clone()),
            mounts,
            capabilities_add: plain(capabilities.add),
            // Who may make packets can speak for its neighbours, and what leaves a cell is judged by the address that asks.
            capabilities_drop: plain(capabilities.drop)
                .into_iter()
                .chain(["NET_RAW".to_owned()])
                .collect(),
            no_new_privileges: own.allow_privilege_escalation == Some(false),
            seccomp_unconfined: seccomp.is_some_and(|profile| profile.type_ == "Unconfined"),
            read_only_root: own.read_only_root_filesystem == Some(true),
            tty: container.tty == Some(true),
            stdin: container.stdin == Some(true),
            stop_signal: None,
            memory: amount(&resources.limits, "memory")
                .filter(|_| limited)
                .and_then(|milli| i64::try_from(milli / 1000).ok()),
            nano_cpus: amount(&resources.limits, "cpu")
                .filter(|_| limited)
                .and_then(|milli| i64::try_from(milli * 1_000_000).ok()),
            cpu_shares: amount(&resources.requests, "cpu")
                .filter(|_| limited)
                .and_then(|milli| i64::try_from((milli * 1024 / 1000).max(2)).ok()),
            sysctls: BTreeMap::new(),
        };
        Ok((spec, invalid))
    }

    /// The files that every container gets, unless it mounts something there itself.
    fn identity(&self, taken: &[Mount], container: &Container) -> io::Result<Vec<Mount>> {
        let folder = folder(self.runtime, self.pod.metadata.uid.as_deref().unwrap_or_default());
        let message = message_file(self.runtime, self.pod, &container.name, self.attempt);
        make_folder(&folder.join("messages"), 0o700)?;
        fs::write(&message, "")?;
        fs::set_permissions(&message, fs::Permissions::from_mode(0o666))?;
        let target = container
            .termination_message_path
            .clone()
            .filter(|path| path.starts_with('/'))
            .unwrap_or_else(|| "/dev/termination-log".to_owned());
        let all = [
            (folder.join("hosts"), "/etc/hosts".to_owned(), false),
            (folder.join("resolv.conf"), "/etc/resolv.conf".to_owned(), false),
            (message, target, false),
        ];
        let mounts = all
            .into_iter()
            .map(|(path, target, read_only): (PathBuf, String, bool)| Mount {
                source: MountSource::Bind(path),
                target,
                read_only,
            });
        Ok(mounts
            .filter(|mount| !taken.iter().any(|other| other.target == mount.target))
            .collect())
    }
}

/// As whom a container runs.
///
/// # Errors
/// A kubelet's words for a container that must not be root, and would be or might be.
fn user(
    pod: &Pod,
    container: &Container,
    own: &SecurityContext,
    of_pod: &PodSecurityContext,
    image: &Image,
) -> Result<Option<String>, String> {
    let said = own.run_as_user.or(of_pod.run_as_user);
    let group = own.run_as_group.or(of_pod.run_as_group);
    let which = || {
        format!(
            "(pod: \"{}_{}({})\", container: {})",
            pod.metadata.name.as_deref().unwrap_or_default(),
            pod.metadata.namespace.as_deref().unwrap_or_default(),
            pod.metadata.uid.as_deref().unwrap_or_default(),
            container.name
        )
    };
    let of_image = image.user.split(':').next().unwrap_or_default();
    if own.run_as_non_root.or(of_pod.run_as_non_root) == Some(true) {
        match (said, of_image.parse::<i64>()) {
            (Some(0), _) => {
                return Err(format!(
                    "container's runAsUser breaks non-root policy {}",
                    which()
                ));
            }
            (Some(_), _) => {}
            (None, Ok(0)) => {
                return Err(format!(
                    "container has runAsNonRoot and image will run as root {}",
                    which()
                ));
            }
            (None, Err(_)) if of_image.is_empty() => {
                return Err(format!(
                    "container has runAsNonRoot and image will run as root {}",
                    which()
                ));
            }
            (None, Err(_)) => {
                return Err(format!(
                    "container has runAsNonRoot and image has non-numeric user ({of_image}), cannot verify user is non-root {}",
                    which()
                ));
            }
            (None, Ok(_)) => {}
        }
    }
    Ok(match (said, group) {
        (Some(user), Some(group)) => Some(format!("{user}:{group}")),
        (Some(user), None) => Some(format!("{user}:0")),
        (None, Some(group)) => {
            let user = if of_image.is_empty() { "0" } else { of_image };
            Some(format!("{user}:{group}"))
        }
        (None, None) => None,
    })
}

/// The limit of a container's memory, as the Pod says it.
pub(super) fn memory_limit(pod: &Pod, container: &str) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let mut all = spec
        .containers
        .iter()
        .chain(spec.init_containers.iter().flatten());
    let found = all.find(|found| found.name == container)?;
    let limits = found.resources.as_ref()?.limits.as_ref()?;
    limits.get("memory").map(|limit| limit.0.clone())
}

/// Whether an engine's words mean that the host does not let it set limits.
pub(super) fn is_about_limits(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    [
        "cgroup",
        "memory.limit",
        "memory.max",
        "cpu.max",
        "cpu.cfs",
        "cpu.shares",
        "nanocpus",
        "resource limits",
    ]
    .iter()
    .any(|word| message.contains(word))
}

/// Removes the message files of runs that are no longer told of.
pub(super) fn forget_message(runtime: &Runtime, pod: &Pod, container: &str, attempt: u32) {
    let path: &Path = &message_file(runtime, pod, container, attempt);
    let _ = fs::remove_file(path);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(spec: &serde_json::Value) -> Pod {
        serde_json::from_value(
            json!({"metadata": {"name": "p", "namespace": "ns", "uid": "u"}, "spec": spec}),
        )
        .unwrap()
    }

    #[test]
    fn last_words_are_the_end_of_a_file_of_any_length() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("words");
        fs::write(&file, "x".repeat(10_000) + "end").unwrap();
        let found = end_of(&file).unwrap();
        assert_eq!(found.len(), 4096);
        assert!(found.ends_with(b"xend"));
        fs::write(&file, "short").unwrap();
        assert_eq!(end_of(&file).unwrap(), b"short");
    }

    /// As `runc` and `crun` say it.
    #[test]
    fn words_about_limits() {
        for message in [
            "runc create failed: unable to start container process: unable to apply cgroup configuration: mkdir /sys/fs/cgroup/memory: read-only file system",
            "crun: opening file `memory.max` for writing: No such file or directory",
            "OCI runtime error: runc: write /sys/fs/cgroup/cpu/cpu.cfs_quota_us: permission denied",
        ] {
            assert!(is_about_limits(message), "{message}");
        }
        assert!(!is_about_limits(
            "exec: \"/no-such-program\": no such file or directory"
        ));
    }

    #[test]
    fn who_a_container_runs_as() {
        let check = |own: serde_json::Value, image: &str| {
            let pod = pod(&json!({"containers": [{"name": "main", "securityContext": own}]}));
            let container = &pod.spec.as_ref().unwrap().containers[0];
            let context = container.security_context.clone().unwrap_or_default();
            let image = Image {
                user: image.to_owned(),
                ..Image::default()
            };
            user(&pod, container, &context, &PodSecurityContext::default(), &image)
        };
        assert_eq!(check(json!({}), "1000"), Ok(None));
        assert_eq!(
            check(json!({"runAsUser": 5, "runAsGroup": 6}), ""),
            Ok(Some("5:6".into()))
        );
        assert_eq!(check(json!({"runAsNonRoot": true}), "1000:1000"), Ok(None));
        let root = check(json!({"runAsNonRoot": true}), "").unwrap_err();
        assert_eq!(
            root,
            "container has runAsNonRoot and image will run as root (pod: \"p_ns(u)\", container: main)"
        );
        assert!(
            check(json!({"runAsNonRoot": true}), "nginx")
                .unwrap_err()
                .contains("non-numeric user (nginx)")
        );
        assert!(check(json!({"runAsNonRoot": true, "runAsUser": 0}), "").is_err());
    }
}
