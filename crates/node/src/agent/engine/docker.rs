//! The Docker Engine API, as Docker and Podman speak it.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    path::PathBuf,
    time::Duration,
};

use async_trait::async_trait;
use bollard::{
    ClientVersion, Docker,
    auth::DockerCredentials,
    exec::{StartExecOptions, StartExecResults},
    models::{ExecConfig, Ipam, IpamConfig, NetworkCreateRequest, ResourcesUlimits, VolumeCreateRequest},
    query_parameters as query,
};
use bytes::Bytes;
use choreo_pod_access::Output;
use futures::{StreamExt, TryStreamExt, stream::BoxStream};
use tokio::sync::Semaphore;

use super::{
    Container, ContainerEngine, ContainerSpec, EngineError, EngineEvent, EngineInfo, ExecSpec, Image,
    LogOptions, Network, NetworkSpec, RegistryAuth, Result, Streams, Usage, plain,
    words::{body, failed, filter, is_of_this_machine, output, sorted, ulimits},
};

/// How long an engine may think about an answer. Pulls and logs answer at once and then stream.
pub(super) const TIMEOUT: Duration = Duration::from_secs(120);

/// How long an engine may take to say which version of the API it speaks.
const ANSWER: Duration = Duration::from_secs(20);

/// An engine behind a Unix socket.
pub(crate) struct DockerEngine {
    docker: Docker,
    socket: PathBuf,
    ulimits: Vec<ResourcesUlimits>,
    /// Whether it is Podman.
    podman: bool,
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
        let path = PathBuf::from(socket);
        let greeting = plain::ping(&path, ANSWER)
            .await
            .map_err(|error| error.to_string())?;
        let Some((major_version, minor_version)) = greeting.api else {
            return Err("what answers does not say which version of the engines' API it speaks: is it Docker or Podman?".to_owned());
        };
        let newest = bollard::API_DEFAULT_VERSION;
        let version = if (major_version, minor_version) < (newest.major_version, newest.minor_version) {
            ClientVersion {
                major_version,
                minor_version,
            }
        } else {
            *newest
        };
        let docker = Docker::connect_with_unix(socket, TIMEOUT.as_secs(), &version)
            .map_err(|error| error.to_string())?;
        Ok(Self {
            docker,
            socket: path,
            ulimits: ulimits(&std::fs::read_to_string("/proc/self/limits").unwrap_or_default()),
            podman: greeting.podman,
            changes: Semaphore::new(CHANGES),
        })
    }

    pub(crate) fn socket(&self) -> &std::path::Path {
        &self.socket
    }
}

#[async_trait]
impl ContainerEngine for DockerEngine {
    async fn info(&self) -> Result<EngineInfo> {
        // Either takes Podman half a second.
        let (version, info) = tokio::try_join!(self.docker.version(), self.docker.info()).map_err(failed)?;
        Ok(EngineInfo {
            name: if self.podman { "podman" } else { "docker" }.to_owned(),
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
        let found = plain::get(&self.socket, &self.docker.client_version(), &path, TIMEOUT).await?;
        Ok(plain::inspected(&found))
    }

    async fn containers(&self, label: &str) -> Result<Vec<(String, BTreeMap<String, String>)>> {
        let filters = serde_json::json!({"label": [label]}).to_string();
        let path = format!("/containers/json?all=true&filters={}", plain::quoted(&filters));
        let found = plain::get(&self.socket, &self.docker.client_version(), &path, TIMEOUT).await?;
        Ok(plain::listed(&found))
    }

    async fn image(&self, reference: &str) -> Result<Image> {
        let found = self.docker.inspect_image(reference).await.map_err(failed)?;
        let config = found.config.unwrap_or_default();
        Ok(Image {
            id: found.id.unwrap_or_default(),
            digest: found.repo_digests.into_iter().flatten().next(),
            user: config.user.unwrap_or_default(),
            exposed: config.exposed_ports.unwrap_or_default(),
            entrypoint: config.entrypoint.unwrap_or_default(),
            command: config.cmd.unwrap_or_default(),
            size: found.size.unwrap_or_default(),
        })
    }

    async fn pull(&self, reference: &str, auth: Option<&RegistryAuth>) -> Result<()> {
        // Docker lets registries of this machine speak plain HTTP; Podman does where it is told to, which this API cannot say.
        if self.podman && is_of_this_machine(reference) {
            return plain::pull(&self.socket, reference, auth).await;
        }
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
            stdout: options.stdout,
            stderr: options.stderr,
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
