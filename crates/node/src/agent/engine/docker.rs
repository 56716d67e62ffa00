//! The Docker Engine API, as Docker and Podman speak it.

use std::{collections::BTreeMap, collections::HashMap, env, io, path::PathBuf, time::Duration};

use async_trait::async_trait;
use bollard::{
    Docker,
    auth::DockerCredentials,
    container::LogOutput,
    errors::Error,
    exec::{StartExecOptions, StartExecResults},
    models::{
        ContainerCreateBody, EndpointIpamConfig, EndpointSettings, ExecConfig, HostConfig, Ipam, IpamConfig,
        Mount as DockerMount, MountType, NetworkCreateRequest, NetworkingConfig, ResourcesUlimits,
        VolumeCreateRequest,
    },
    query_parameters as query,
};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream::BoxStream};
use jiff::Timestamp;
use tokio::sync::Semaphore;

use super::{
    Container, ContainerEngine, ContainerSpec, EngineError, EngineEvent, EngineInfo, ExecSpec, Image,
    LogOptions, Mount, MountSource, Network, NetworkMode, NetworkSpec, Output, RegistryAuth, Result, Streams,
    Usage, plain,
};

/// How long an engine may think about an answer. Pulls and logs answer at once and then stream.
const TIMEOUT: Duration = Duration::from_secs(120);

/// How long an engine may take to say which version of the API it speaks.
const ANSWER: Duration = Duration::from_secs(20);

/// Resource limits that are given to every container, with their lines in `/proc/self/limits`. Some hosts let an engine start nothing when it
/// has to take over its own configuration's (`error setting rlimit type 7`), and none lets it exceed its own.
const ULIMITS: [(&str, &str, i64); 2] = [
    ("nofile", "Max open files", 65_536),
    ("nproc", "Max processes", 16_384),
];

/// The limits to give: those wanted, or what this process itself may have if that is less. Engines on the same machine rarely have less.
fn ulimits(limits: &str) -> Vec<ResourcesUlimits> {
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

/// Where engines usually listen, in the order in which they are tried. Where the environment names one, no other will do.
pub(crate) fn sockets() -> Vec<PathBuf> {
    let named = ["CONTAINER_HOST", "DOCKER_HOST"]
        .into_iter()
        .filter_map(|name| env::var(name).ok())
        .filter_map(|value| value.strip_prefix("unix://").map(PathBuf::from));
    let named: Vec<PathBuf> = named.collect();
    if !named.is_empty() {
        return named;
    }
    let runtime = env::var("XDG_RUNTIME_DIR").map(PathBuf::from);
    let home = env::var("HOME").map(PathBuf::from);
    let of_user = runtime
        .iter()
        .flat_map(|dir| [dir.join("podman/podman.sock"), dir.join("docker.sock")])
        .chain(home.iter().map(|home| home.join(".docker/run/docker.sock")));
    let of_system = [
        "/run/podman/podman.sock",
        "/var/run/docker.sock",
        "/run/docker.sock",
    ]
    .map(PathBuf::from);
    let mut all: Vec<PathBuf> = Vec::new();
    for path in of_user.chain(of_system) {
        if !all.contains(&path) {
            all.push(path);
        }
    }
    all
}

/// The first engine that answers, or what each socket said. `wanted` is the only one tried if given.
pub(crate) async fn find(wanted: Option<&str>) -> std::result::Result<DockerEngine, Vec<(PathBuf, String)>> {
    let candidates = match wanted {
        Some(wanted) => vec![PathBuf::from(wanted.strip_prefix("unix://").unwrap_or(wanted))],
        None => sockets(),
    };
    let mut failed = Vec::new();
    for path in candidates {
        match DockerEngine::connect(&path.to_string_lossy()).await {
            Ok(engine) => return Ok(engine),
            Err(error) => failed.push((path, error)),
        }
    }
    Err(failed)
}

/// An engine behind a Unix socket.
pub(crate) struct DockerEngine {
    docker: Docker,
    socket: PathBuf,
    ulimits: Vec<ResourcesUlimits>,
    /// Changes that are asked for at once: engines do not get faster by more, and those who wait wait in turn.
    changes: Semaphore,
}

/// See [`DockerEngine::changes`].
const CHANGES: usize = 8;

impl DockerEngine {
    /// Connects, and asks which version of the API is spoken.
    pub(crate) async fn connect(socket: &str) -> std::result::Result<Self, String> {
        // The file first: the client would only say that there is a timeout.
        tokio::net::UnixStream::connect(socket)
            .await
            .map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => "there is no such socket".to_owned(),
                _ => error.to_string(),
            })?;
        let docker = Docker::connect_with_unix(socket, TIMEOUT.as_secs(), bollard::API_DEFAULT_VERSION)
            .map_err(|error| error.to_string())?;
        let docker = tokio::time::timeout(ANSWER, docker.negotiate_version())
            .await
            .map_err(|_| format!("it did not answer within {} s", ANSWER.as_secs()))?
            .map_err(|error| error.to_string())?;
        Ok(Self {
            docker,
            socket: PathBuf::from(socket),
            ulimits: ulimits(&std::fs::read_to_string("/proc/self/limits").unwrap_or_default()),
            changes: Semaphore::new(CHANGES),
        })
    }

    pub(crate) fn socket(&self) -> &std::path::Path {
        &self.socket
    }
}

fn failed(error: Error) -> EngineError {
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
fn chain(error: &dyn std::error::Error) -> String {
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

fn filter(label: &str) -> HashMap<String, Vec<String>> {
    HashMap::from([("label".to_owned(), vec![label.to_owned()])])
}

fn sorted(labels: Option<HashMap<String, String>>) -> BTreeMap<String, String> {
    labels.unwrap_or_default().into_iter().collect()
}

/// A time as engines write it; what was not yet is the year 1.
pub(super) fn time(text: Option<&str>) -> Option<Timestamp> {
    let time: Timestamp = text?.parse().ok()?;
    (time > Timestamp::UNIX_EPOCH).then_some(time)
}

fn output(piece: LogOutput) -> Output {
    match piece {
        LogOutput::StdErr { message } => Output::Stderr(message),
        LogOutput::StdOut { message } | LogOutput::StdIn { message } | LogOutput::Console { message } => {
            Output::Stdout(message)
        }
    }
}

fn mount(mount: &Mount) -> DockerMount {
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

fn some<T>(list: &[T]) -> Option<Vec<T>>
where
    T: Clone,
{
    (!list.is_empty()).then(|| list.to_vec())
}

fn body(spec: &ContainerSpec, ulimits: Vec<ResourcesUlimits>) -> ContainerCreateBody {
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

#[async_trait]
impl ContainerEngine for DockerEngine {
    async fn info(&self) -> Result<EngineInfo> {
        let version = self.docker.version().await.map_err(failed)?;
        let info = self.docker.info().await.map_err(failed)?;
        let components = version.components.unwrap_or_default();
        let podman = components
            .iter()
            .any(|component| component.name.starts_with("Podman"));
        Ok(EngineInfo {
            name: if podman { "podman" } else { "docker" }.to_owned(),
            version: version.version.unwrap_or_default(),
            // Podman has no field for it in this API but the security options, as Docker.
            rootless: info
                .security_options
                .iter()
                .flatten()
                .any(|option| option.contains("rootless")),
            operating_system: info.operating_system.unwrap_or_default(),
            kernel: info.kernel_version.unwrap_or_default(),
            architecture: info.architecture.unwrap_or_default(),
            cpus: info.ncpu.and_then(|n| u64::try_from(n).ok()).unwrap_or_default(),
            memory: info
                .mem_total
                .and_then(|n| u64::try_from(n).ok())
                .unwrap_or_default(),
        })
    }

    async fn create_network(&self, spec: &NetworkSpec) -> Result<()> {
        let config = IpamConfig {
            subnet: Some(spec.subnet.to_string()),
            ip_range: Some(spec.range.to_string()),
            ..IpamConfig::default()
        };
        let request = NetworkCreateRequest {
            name: spec.name.clone(),
            driver: Some("bridge".to_owned()),
            internal: Some(true),
            ipam: Some(Ipam {
                config: Some(vec![config]),
                ..Ipam::default()
            }),
            labels: Some(spec.labels.clone().into_iter().collect()),
            ..NetworkCreateRequest::default()
        };
        self.docker
            .create_network(request)
            .await
            .map(drop)
            .map_err(failed)
    }

    async fn networks(&self, label: &str) -> Result<Vec<Network>> {
        let options = query::ListNetworksOptions {
            filters: Some(filter(label)),
        };
        let found = self.docker.list_networks(Some(options)).await.map_err(failed)?;
        let networks = found.into_iter().map(|network| Network {
            name: network.name.unwrap_or_default(),
            subnet: network
                .ipam
                .and_then(|ipam| ipam.config)
                .into_iter()
                .flatten()
                .find_map(|config| config.subnet?.parse().ok()),
            labels: sorted(network.labels),
        });
        Ok(networks.collect())
    }

    async fn remove_network(&self, name: &str) -> Result<()> {
        match self.docker.remove_network(name).await.map_err(failed) {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(()),
        }
    }

    async fn create(&self, spec: &ContainerSpec) -> Result<String> {
        let _turn = self.changes.acquire().await;
        let options = query::CreateContainerOptions {
            name: Some(spec.name.clone()),
            ..query::CreateContainerOptions::default()
        };
        let made = self
            .docker
            .create_container(Some(options), body(spec, self.ulimits.clone()))
            .await
            .map_err(failed)?;
        Ok(made.id)
    }

    async fn start(&self, id: &str) -> Result<()> {
        let _turn = self.changes.acquire().await;
        self.docker
            .start_container(id, None::<query::StartContainerOptions>)
            .await
            .map_err(failed)
    }

    async fn kill(&self, id: &str, signal: &str) -> Result<()> {
        let options = query::KillContainerOptions {
            signal: signal.to_owned(),
        };
        self.docker
            .kill_container(id, Some(options))
            .await
            .map_err(failed)
    }

    async fn remove(&self, id: &str) -> Result<()> {
        let _turn = self.changes.acquire().await;
        let options = query::RemoveContainerOptions {
            v: true,
            force: true,
            ..query::RemoveContainerOptions::default()
        };
        match self
            .docker
            .remove_container(id, Some(options))
            .await
            .map_err(failed)
        {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(()),
        }
    }

    async fn inspect(&self, id: &str) -> Result<Container> {
        let path = format!("/containers/{}/json", plain::quoted(id));
        let found = plain::get(&self.socket, &path, TIMEOUT).await?;
        Ok(plain::inspected(&found))
    }

    async fn containers(&self, label: &str) -> Result<Vec<(String, BTreeMap<String, String>)>> {
        let filters = serde_json::json!({"label": [label]}).to_string();
        let path = format!("/containers/json?all=true&filters={}", plain::quoted(&filters));
        let found = plain::get(&self.socket, &path, TIMEOUT).await?;
        Ok(plain::listed(&found))
    }

    async fn image(&self, reference: &str) -> Result<Image> {
        let found = self.docker.inspect_image(reference).await.map_err(failed)?;
        let config = found.config.unwrap_or_default();
        Ok(Image {
            id: found.id.unwrap_or_default(),
            digest: found.repo_digests.into_iter().flatten().next(),
            user: config.user.unwrap_or_default(),
            entrypoint: config.entrypoint.unwrap_or_default(),
            command: config.cmd.unwrap_or_default(),
            size: found.size.unwrap_or_default(),
        })
    }

    async fn pull(&self, reference: &str, auth: Option<&RegistryAuth>) -> Result<()> {
        let options = query::CreateImageOptions {
            from_image: Some(reference.to_owned()),
            ..query::CreateImageOptions::default()
        };
        let credentials = auth.map(|auth| DockerCredentials {
            username: Some(auth.username.clone()),
            password: Some(auth.password.clone()),
            serveraddress: Some(auth.server.clone()),
            ..DockerCredentials::default()
        });
        let mut progress = self.docker.create_image(Some(options), None, credentials);
        while let Some(step) = progress.next().await {
            let step = step.map_err(failed)?;
            if let Some(error) = step.error_detail.and_then(|detail| detail.message) {
                return Err(EngineError::Refused(error));
            }
        }
        Ok(())
    }

    async fn load(&self, archive: BoxStream<'static, io::Result<Bytes>>) -> Result<()> {
        let options = query::ImportImageOptions::default();
        let mut progress = self.docker.import_image_stream(options, archive, None);
        while let Some(step) = progress.next().await {
            if let Some(error) = step
                .map_err(failed)?
                .error_detail
                .and_then(|detail| detail.message)
            {
                return Err(EngineError::Refused(error));
            }
        }
        Ok(())
    }

    async fn remove_image(&self, reference: &str) -> Result<()> {
        let options = None::<query::RemoveImageOptions>;
        match self
            .docker
            .remove_image(reference, options, None)
            .await
            .map_err(failed)
        {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(()),
        }
    }

    async fn images(&self, prefix: &str) -> Result<Vec<String>> {
        let found = self
            .docker
            .list_images(None::<query::ListImagesOptions>)
            .await
            .map_err(failed)?;
        let names = found.into_iter().flat_map(|image| image.repo_tags);
        Ok(names.filter(|name| name.starts_with(prefix)).collect())
    }

    async fn create_volume(
        &self,
        name: &str,
        labels: &BTreeMap<String, String>,
        options: &BTreeMap<String, String>,
    ) -> Result<()> {
        let request = VolumeCreateRequest {
            name: Some(name.to_owned()),
            labels: Some(labels.clone().into_iter().collect()),
            driver: Some("local".to_owned()),
            driver_opts: Some(options.clone().into_iter().collect())
                .filter(|o: &HashMap<_, _>| !o.is_empty()),
            ..VolumeCreateRequest::default()
        };
        match self.docker.create_volume(request).await.map_err(failed) {
            Ok(_) | Err(EngineError::Conflict(_)) => Ok(()),
            // Podman says it with another code.
            Err(EngineError::Refused(message)) if message.contains("already exists") => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn volumes(&self, label: &str) -> Result<Vec<(String, BTreeMap<String, String>)>> {
        let options = query::ListVolumesOptions {
            filters: Some(filter(label)),
        };
        let found = self.docker.list_volumes(Some(options)).await.map_err(failed)?;
        let volumes = found.volumes.into_iter().flatten();
        Ok(volumes
            .map(|volume| (volume.name, volume.labels.into_iter().collect()))
            .collect())
    }

    async fn remove_volume(&self, name: &str) -> Result<()> {
        let options = None::<query::RemoveVolumeOptions>;
        match self.docker.remove_volume(name, options).await.map_err(failed) {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(()),
        }
    }

    async fn logs(&self, id: &str, options: &LogOptions) -> Result<BoxStream<'static, io::Result<Output>>> {
        let options = query::LogsOptions {
            follow: options.follow,
            stdout: true,
            stderr: true,
            since: options
                .since
                .map(|since| i32::try_from(since.as_second()).unwrap_or_default())
                .unwrap_or_default(),
            until: 0,
            timestamps: options.timestamps,
            tail: options
                .tail
                .map_or_else(|| "all".to_owned(), |lines| lines.to_string()),
        };
        let pieces = self.docker.logs(id, Some(options));
        Ok(pieces.map_ok(output).map_err(io::Error::other).boxed())
    }

    async fn create_exec(&self, container: &str, spec: &ExecSpec) -> Result<String> {
        let config = ExecConfig {
            attach_stdin: Some(spec.stdin),
            attach_stdout: Some(spec.stdout),
            attach_stderr: Some(spec.stderr),
            tty: Some(spec.tty),
            cmd: Some(spec.command.clone()),
            ..ExecConfig::default()
        };
        let made = self.docker.create_exec(container, config).await.map_err(failed)?;
        Ok(made.id)
    }

    async fn start_exec(&self, exec: &str, tty: bool) -> Result<Streams> {
        let options = StartExecOptions {
            tty,
            ..StartExecOptions::default()
        };
        match self
            .docker
            .start_exec(exec, Some(options))
            .await
            .map_err(failed)?
        {
            StartExecResults::Attached {
                output: pieces,
                input,
            } => Ok(Streams {
                input: Box::new(input),
                output: pieces.map_ok(output).map_err(io::Error::other).boxed(),
            }),
            StartExecResults::Detached => Err(EngineError::Refused(
                "the engine gave no streams of the process".to_owned(),
            )),
        }
    }

    async fn exec_code(&self, exec: &str) -> Result<Option<i64>> {
        let found = self.docker.inspect_exec(exec).await.map_err(failed)?;
        Ok(found.exit_code.filter(|_| found.running != Some(true)))
    }

    async fn resize_exec(&self, exec: &str, columns: u16, rows: u16) -> Result<()> {
        let options = query::ResizeExecOptions {
            h: rows.into(),
            w: columns.into(),
        };
        self.docker.resize_exec(exec, options).await.map_err(failed)
    }

    async fn attach(&self, container: &str, stdin: bool) -> Result<Streams> {
        let options = query::AttachContainerOptions {
            stream: true,
            stdin,
            stdout: true,
            stderr: true,
            ..query::AttachContainerOptions::default()
        };
        let streams = self
            .docker
            .attach_container(container, Some(options))
            .await
            .map_err(failed)?;
        Ok(Streams {
            input: Box::new(streams.input),
            output: streams.output.map_ok(output).map_err(io::Error::other).boxed(),
        })
    }

    async fn resize(&self, container: &str, columns: u16, rows: u16) -> Result<()> {
        let options = query::ResizeContainerTTYOptions {
            h: rows.into(),
            w: columns.into(),
        };
        self.docker
            .resize_container_tty(container, options)
            .await
            .map_err(failed)
    }

    async fn usage(&self, id: &str) -> Result<Usage> {
        let options = query::StatsOptions {
            stream: false,
            one_shot: true,
        };
        let mut stats = Box::pin(self.docker.stats(id, Some(options)));
        let Some(stats) = stats.next().await else {
            return Err(EngineError::NotFound(format!("no figures for container {id}")));
        };
        let stats = stats.map_err(failed)?;
        let cpu = stats.cpu_stats.and_then(|cpu| cpu.cpu_usage?.total_usage);
        let memory = stats.memory_stats.unwrap_or_default();
        let inactive = memory.stats.as_ref().and_then(|all| {
            all.get("inactive_file")
                .or_else(|| all.get("total_inactive_file"))
        });
        let used = memory.usage.unwrap_or_default();
        Ok(Usage {
            cpu: Duration::from_nanos(cpu.unwrap_or_default()),
            memory: used.saturating_sub(inactive.copied().unwrap_or_default()),
        })
    }

    async fn events(&self, label: &str) -> Result<BoxStream<'static, Result<EngineEvent>>> {
        let mut filters = filter(label);
        filters.insert("type".to_owned(), vec!["container".to_owned()]);
        let options = query::EventsOptions {
            filters: Some(filters),
            ..query::EventsOptions::default()
        };
        // The stream asks only when it is read: what is away now should be said now.
        self.docker.ping().await.map_err(failed)?;
        let events = self.docker.events(Some(options)).map(|event| {
            let event = event.map_err(failed)?;
            let actor = event.actor.unwrap_or_default();
            Ok(EngineEvent {
                container: actor.id.unwrap_or_default(),
                action: event.action.unwrap_or_default(),
                labels: sorted(actor.attributes),
            })
        });
        Ok(events.boxed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
