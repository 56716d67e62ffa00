//! Between our words and those of the Docker Engine API.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
};

use bollard::{
    container::LogOutput,
    errors::Error,
    models::{
        ContainerCreateBody, EndpointIpamConfig, EndpointSettings, HostConfig, Mount as DockerMount,
        MountType, NetworkingConfig, ResourcesUlimits,
    },
};
use choreo_pod_access::Output;
use jiff::Timestamp;

use super::{ContainerSpec, EngineError, Mount, MountSource, NetworkMode, docker::TIMEOUT};

/// Resource limits that are given to every container, with their lines in `/proc/self/limits`. Some hosts let an engine start nothing when it
/// has to take over its own configuration's (`error setting rlimit type 7`), and none lets it exceed its own.
pub(super) const ULIMITS: [(&str, &str, i64); 2] = [
    ("nofile", "Max open files", 65_536),
    ("nproc", "Max processes", 16_384),
];

/// The limits to give: those wanted, or what this process itself may have if that is less. Engines on the same machine rarely have less.
pub(super) fn ulimits(limits: &str) -> Vec<ResourcesUlimits> {
    let own = |line: &str| {
        let line = limits.lines().find_map(|found| found.strip_prefix(line))?;
        // Soft and hard limit, and the unit.
        line.split_whitespace().nth(1)?.parse::<i64>().ok()
    };
    let each = ULIMITS.into_iter().map(|(name, line, wanted)| {
        let value = own(line).map_or(wanted, |own| own.min(wanted));
        ResourcesUlimits {
            name: Some(name.to_owned()),
            soft: Some(value),
            hard: Some(value),
        }
    });
    each.collect()
}

pub(super) fn failed(error: Error) -> EngineError {
    match error {
        Error::DockerResponseServerError { status_code, message } => {
            let message = message.trim().to_owned();
            match status_code {
                404 => EngineError::NotFound(message),
                409 => EngineError::Conflict(message),
                _ => EngineError::Refused(message),
            }
        }
        Error::RequestTimeoutError => EngineError::Away(format!("no answer within {} s", TIMEOUT.as_secs())),
        Error::HyperResponseError { .. } | Error::HyperLegacyError { .. } | Error::IOError { .. } => {
            EngineError::Away(chain(&error))
        }
        Error::SocketNotFoundError(path) => EngineError::Away(format!("there is no socket {path}")),
        Error::DockerStreamError { error } => EngineError::Refused(error),
        other => EngineError::Refused(chain(&other)),
    }
}

/// An error and what caused it.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

/// Whether the registry of an image is on this machine: a loopback address, or `localhost` with a port.
pub(super) fn is_of_this_machine(reference: &str) -> bool {
    let host = reference.split('/').next().unwrap_or_default();
    let (name, port) = host.rsplit_once(':').unwrap_or((host, ""));
    let name = name.trim_start_matches('[').trim_end_matches(']');
    let has_port = !port.is_empty() && port.bytes().all(|digit| digit.is_ascii_digit());
    has_port && (name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback()))
}

pub(super) fn filter(label: &str) -> HashMap<String, Vec<String>> {
    HashMap::from([("label".to_owned(), vec![label.to_owned()])])
}

pub(super) fn sorted(labels: Option<HashMap<String, String>>) -> BTreeMap<String, String> {
    labels.unwrap_or_default().into_iter().collect()
}

/// A time as engines write it; what was not yet is the year 1.
pub(super) fn time(text: Option<&str>) -> Option<Timestamp> {
    let time: Timestamp = text?.parse().ok()?;
    (time > Timestamp::UNIX_EPOCH).then_some(time)
}

pub(super) fn output(piece: LogOutput) -> Output {
    match piece {
        LogOutput::StdErr { message } => Output::Stderr(message),
        LogOutput::StdOut { message } | LogOutput::StdIn { message } | LogOutput::Console { message } => {
            Output::Stdout(message)
        }
    }
}

pub(super) fn mount(mount: &Mount) -> DockerMount {
    let (typ, source) = match &mount.source {
        MountSource::Bind(path) => (MountType::BIND, path.to_string_lossy().into_owned()),
        MountSource::Volume(name) => (MountType::VOLUME, name.clone()),
    };
    DockerMount {
        target: Some(mount.target.clone()),
        source: Some(source),
        typ: Some(typ),
        read_only: Some(mount.read_only),
        ..DockerMount::default()
    }
}

pub(super) fn some<T>(list: &[T]) -> Option<Vec<T>>
where
    T: Clone,
{
    (!list.is_empty()).then(|| list.to_vec())
}

pub(super) fn body(spec: &ContainerSpec, ulimits: Vec<ResourcesUlimits>) -> ContainerCreateBody {
    let mut networking = None;
    let network_mode = match &spec.network {
        NetworkMode::None => "none".to_owned(),
        NetworkMode::Container(id) => format!("container:{id}"),
        NetworkMode::Network(name, address) => {
            let settings = EndpointSettings {
                ipam_config: address.map(|address| EndpointIpamConfig {
                    ipv4_address: Some(address.to_string()),
                    ..EndpointIpamConfig::default()
                }),
                ..EndpointSettings::default()
            };
            networking = Some(NetworkingConfig {
                endpoints_config: Some(HashMap::from([(name.clone(), settings)])),
            });
            name.clone()
        }
    };
    let mut security = Vec::new();
    if spec.no_new_privileges {
        security.push("no-new-privileges".to_owned());
    }
    if spec.seccomp_unconfined {
        security.push("seccomp=unconfined".to_owned());
    }
    let host = HostConfig {
        network_mode: Some(network_mode),
        ipc_mode: spec.ipc_of.as_ref().map(|id| {
            if id.is_empty() {
                "shareable".to_owned()
            } else {
                format!("container:{id}")
            }
        }),
        pid_mode: spec.pid_of.as_ref().map(|id| format!("container:{id}")),
        mounts: some(&spec.mounts.iter().map(mount).collect::<Vec<_>>()),
        cap_add: some(&spec.capabilities_add),
        cap_drop: some(&spec.capabilities_drop),
        group_add: some(&spec.groups),
        security_opt: some(&security),
        readonly_rootfs: Some(spec.read_only_root),
        ulimits: Some(ulimits),
        memory: spec.memory,
        nano_cpus: spec.nano_cpus,
        cpu_shares: spec.cpu_shares,
        sysctls: Some(spec.sysctls.clone().into_iter().collect()).filter(|s: &HashMap<_, _>| !s.is_empty()),
        ..HostConfig::default()
    };
    ContainerCreateBody {
        image: Some(spec.image.clone()),
        labels: Some(spec.labels.clone().into_iter().collect()),
        entrypoint: spec.entrypoint.clone(),
        cmd: spec.command.clone(),
        env: Some(spec.env.clone()),
        working_dir: spec.working_dir.clone(),
        user: spec.user.clone(),
        hostname: spec.hostname.clone(),
        tty: Some(spec.tty),
        open_stdin: Some(spec.stdin),
        stop_signal: spec.stop_signal.clone(),
        host_config: Some(host),
        networking_config: networking,
        ..ContainerCreateBody::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registries_of_this_machine() {
        for image in [
            "127.0.0.1:5000/a:1",
            "localhost:5000/a",
            "[::1]:5000/a",
            "127.9.9.9:80/a",
        ] {
            assert!(is_of_this_machine(image), "{image}");
        }
        for image in [
            "localhost/a:1",
            "ghcr.io/a",
            "127.0.0.1.example.com:80/a",
            "10.0.0.1:5000/a",
            "docker.io/library/a:1",
        ] {
            assert!(!is_of_this_machine(image), "{image}");
        }
    }

    #[test]
    fn times_of_engines() {
        assert_eq!(time(Some("0001-01-01T00:00:00Z")), None);
        assert_eq!(time(Some("")), None);
        assert_eq!(
            time(Some("2026-11-30T02:19:52.146521449Z")).map(|time| time.as_second()),
            Some(1_796_005_192)
        );
        // Docker writes the offset of its host.
        assert!(time(Some("2026-11-30T03:19:52.1+01:00")).is_some());
    }

    #[test]
    fn a_container_joins_another_one_and_always_has_ulimits() {
        let spec = ContainerSpec {
            network: NetworkMode::Container("abc".into()),
            ipc_of: Some("abc".into()),
            no_new_privileges: true,
            ..ContainerSpec::default()
        };
        let limits = "Limit  Soft Limit  Hard Limit  Units\nMax processes  unlimited  unlimited  processes\nMax open files  1024  4096  files\n";
        let host = body(&spec, ulimits(limits)).host_config.unwrap();
        assert_eq!(host.network_mode.as_deref(), Some("container:abc"));
        assert_eq!(host.ipc_mode.as_deref(), Some("container:abc"));
        assert_eq!(host.security_opt, Some(vec!["no-new-privileges".to_owned()]));
        let limits: Vec<_> = host
            .ulimits
            .unwrap()
            .into_iter()
            .filter_map(|limit| limit.hard)
            .collect();
        assert_eq!(limits, [4096, 16_384]);
    }
}
