//! The volumes of a Pod: folders of the host that are mounted into its containers, and volumes of the engine.
//!
//! What comes from ConfigMaps, Secrets and the Pod itself is written as kubelets do it: into a new folder, to which a symbolic link is
//! then moved in one step, so that a container sees all of a change or nothing of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, symlink},
    path::{Component, Path, PathBuf},
};

use k8s_openapi::api::{
    authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec},
    core::v1::{
        Container, DownwardAPIVolumeFile, KeyToPath, Pod, ServiceAccountTokenProjection, Volume,
        VolumeProjection,
    },
};
use kube::{Api, api::PostParams};

use super::env::Sources;
use crate::{
    agent::{
        Runtime,
        engine::{EngineError, Mount, MountSource},
        labels, quantity,
    },
    core::Name,
};

/// The link that is moved.
const CURRENT: &str = "..data";
/// The mode of files for which nothing else is said.
const FILE_MODE: i32 = 0o644;

/// Why a volume cannot be had (yet).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum VolumeError {
    /// Something is missing that may still come: reason of the event and message.
    Missing(String),
    /// It is of a kind that there is not here.
    Unsupported(String),
}

impl VolumeError {
    pub(super) fn message(&self) -> &str {
        match self {
            Self::Missing(message) | Self::Unsupported(message) => message,
        }
    }
}

/// Where the volumes of a Pod are.
#[derive(Clone, Debug, Default)]
pub(super) struct Volumes {
    sources: BTreeMap<String, MountSource>,
    folder: PathBuf,
    /// When tokens in them should be renewed.
    pub(super) renew: Option<jiff::Timestamp>,
}

/// The folder of a Pod on the host.
pub(super) fn folder(runtime: &Runtime, uid: &str) -> PathBuf {
    runtime.options.data_dir.join("pods").join(uid)
}

pub(crate) fn make_folder(path: &Path, mode: u32) -> io::Result<()> {
    match fs::DirBuilder::new().mode(0o700).recursive(true).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

/// A file of a volume: its path below it, its contents and its mode.
type Files = BTreeMap<String, (Vec<u8>, i32)>;

/// Makes the volumes of a Pod, or brings those with contents up to date.
pub(super) async fn prepare(
    runtime: &Runtime,
    sources: &Sources<'_>,
    pod: &Pod,
) -> Result<Volumes, VolumeError> {
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    let folder = folder(runtime, uid);
    let failed = |what: &Path| {
        let what = what.display().to_string();
        move |error: io::Error| VolumeError::Missing(format!("cannot prepare {what}: {error}"))
    };
    make_folder(&folder, 0o700).map_err(failed(&folder))?;
    let mut volumes = Volumes {
        folder: folder.join("volumes"),
        ..Volumes::default()
    };
    make_folder(&volumes.folder, 0o700).map_err(failed(&folder))?;
    let spec = pod.spec.clone().unwrap_or_default();
    for volume in spec.volumes.iter().flatten() {
        let path = volumes.folder.join(&volume.name);
        let source = if let Some(files) = contents(runtime, sources, pod, volume, &mut volumes.renew).await? {
            let group = spec
                .security_context
                .as_ref()
                .and_then(|context| context.fs_group);
            write(&path, &files, group).map_err(failed(&path))?;
            MountSource::Bind(path)
        } else if let Some(empty) = &volume.empty_dir {
            if empty.medium.as_deref() == Some("Memory") {
                memory(runtime, uid, volume).await?
            } else {
                make_folder(&path, 0o777).map_err(failed(&path))?;
                MountSource::Bind(path)
            }
        } else if let Some(claim) = &volume.persistent_volume_claim {
            persistent(runtime, pod, &claim.claim_name).await?
        } else {
            return Err(VolumeError::Unsupported(unsupported(volume)));
        };
        volumes.sources.insert(volume.name.clone(), source);
    }
    Ok(volumes)
}

fn unsupported(volume: &Volume) -> String {
    let name = &volume.name;
    if volume.host_path.is_some() {
        return format!(
            "volume {name:?}: hostPath is refused by the local data plane, which gives no access to this machine's files; use an \
             emptyDir or a PersistentVolumeClaim"
        );
    }
    format!(
        "volume {name:?} is of a kind that the local data plane does not have: it has configMap, secret, downwardAPI, projected, emptyDir \
         and persistentVolumeClaim"
    )
}

async fn memory(runtime: &Runtime, uid: &str, volume: &Volume) -> Result<MountSource, VolumeError> {
    let name = format!(
        "choreo-{}-{}-{}",
        labels::short(&runtime.instance),
        labels::short(uid),
        volume.name
    );
    let limit = volume
        .empty_dir
        .as_ref()
        .and_then(|empty| empty.size_limit.as_ref());
    let sized = limit.map(|limit| format!("mode=1777,size={}", quantity::whole(&limit.0)));
    let options = |how: &str| {
        [("type", "tmpfs"), ("device", "tmpfs"), ("o", how)]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into()
    };
    let labels = [
        (labels::INSTANCE.to_owned(), runtime.instance.clone()),
        (labels::POD_UID.to_owned(), uid.to_owned()),
    ]
    .into();
    let engine = &runtime.engine;
    let made = match &sized {
        Some(how) => engine.create_volume(&name, &labels, &options(how)).await,
        None => engine.create_volume(&name, &labels, &options("mode=1777")).await,
    };
    let made = match made {
        // Some versions of Podman take a size for a quota of the disk. Without one it is half of the machine's memory.
        Err(EngineError::Refused(message)) if sized.is_some() && message.contains("size") => {
            tracing::info!(volume = name, "has no limit of its size: {message}");
            engine.create_volume(&name, &labels, &options("mode=1777")).await
        }
        other => other,
    };
    made.map_err(|error| {
        VolumeError::Missing(format!("cannot make volume {:?} in memory: {error}", volume.name))
    })?;
    Ok(MountSource::Volume(name))
}

/// The folder of a claim. It stays until the claim goes.
async fn persistent(runtime: &Runtime, pod: &Pod, claim: &str) -> Result<MountSource, VolumeError> {
    let name = Name::new(pod.metadata.namespace.as_deref().unwrap_or_default(), claim);
    let Some(found) = runtime.context.world.claims.get(&name) else {
        return Err(VolumeError::Missing(format!(
            "persistentvolumeclaim {claim:?} not found"
        )));
    };
    let uid = found.metadata.uid.clone().unwrap_or_default();
    let path = claim_folder(runtime, &uid);
    make_folder(&path, 0o777)
        .map_err(|error| VolumeError::Missing(format!("cannot make the volume of claim {name}: {error}")))?;
    Ok(MountSource::Bind(path))
}

pub(in crate::agent) fn claim_folder(runtime: &Runtime, uid: &str) -> PathBuf {
    runtime.options.data_dir.join("volumes").join(uid)
}

/// The files of a volume that has some; `None` for one that is of another kind.
async fn contents(
    runtime: &Runtime,
    sources: &Sources<'_>,
    pod: &Pod,
    volume: &Volume,
    renew: &mut Option<jiff::Timestamp>,
) -> Result<Option<Files>, VolumeError> {
    let missing = VolumeError::Missing;
    let mut files = Files::new();
    if let Some(map) = &volume.config_map {
        let found = sources.config_map(&map.name).map_err(missing)?;
        let what = Keys {
            kind: "configmap",
            name: &map.name,
            optional: map.optional,
        };
        what.add(found, map.items.as_deref(), map.default_mode, &mut files)?;
    } else if let Some(secret) = &volume.secret {
        let name = secret.secret_name.as_deref().unwrap_or_default();
        let found = sources.secret(name).map_err(missing)?;
        let what = Keys {
            kind: "secret",
            name,
            optional: secret.optional,
        };
        what.add(found, secret.items.as_deref(), secret.default_mode, &mut files)?;
    } else if let Some(downward) = &volume.downward_api {
        downward_files(
            sources,
            downward.items.as_deref(),
            downward.default_mode,
            &mut files,
        )?;
    } else if let Some(projected) = &volume.projected {
        for source in projected.sources.iter().flatten() {
            let mode = projected.default_mode;
            projection(runtime, sources, pod, source, mode, &mut files, renew).await?;
        }
    } else {
        return Ok(None);
    }
    Ok(Some(files))
}

async fn projection(
    runtime: &Runtime,
    sources: &Sources<'_>,
    pod: &Pod,
    source: &VolumeProjection,
    mode: Option<i32>,
    files: &mut Files,
    renew: &mut Option<jiff::Timestamp>,
) -> Result<(), VolumeError> {
    if let Some(map) = &source.config_map {
        let found = sources.config_map(&map.name).map_err(VolumeError::Missing)?;
        let what = Keys {
            kind: "configmap",
            name: &map.name,
            optional: map.optional,
        };
        what.add(found, map.items.as_deref(), mode, files)
    } else if let Some(secret) = &source.secret {
        let found = sources.secret(&secret.name).map_err(VolumeError::Missing)?;
        let what = Keys {
            kind: "secret",
            name: &secret.name,
            optional: secret.optional,
        };
        what.add(found, secret.items.as_deref(), mode, files)
    } else if let Some(downward) = &source.downward_api {
        downward_files(sources, downward.items.as_deref(), mode, files)
    } else if let Some(token) = &source.service_account_token {
        let (text, expires) = service_account_token(runtime, pod, token).await?;
        let soonest = renew.map_or(expires, |known| known.min(expires));
        *renew = Some(soonest);
        // Who runs as another user must be able to read it; nobody else gets to this folder.
        files.insert(checked(&token.path)?, (text.into_bytes(), FILE_MODE));
        Ok(())
    } else {
        Err(VolumeError::Unsupported(
            "a projected volume names a source that the local data plane does not have (it has configMap, secret, downwardAPI and \
             serviceAccountToken)"
                .to_owned(),
        ))
    }
}

/// A token from the API, and when a new one should be asked for: after four fifths of its life.
async fn service_account_token(
    runtime: &Runtime,
    pod: &Pod,
    wanted: &ServiceAccountTokenProjection,
) -> Result<(String, jiff::Timestamp), VolumeError> {
    let meta = &pod.metadata;
    let account = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.service_account_name.as_deref())
        .filter(|name| !name.is_empty())
        .unwrap_or("default");
    let namespace = meta.namespace.as_deref().unwrap_or_default();
    let request = TokenRequest {
        spec: Some(TokenRequestSpec {
            audiences: wanted.audience.clone().map(|audience| vec![audience]),
            attestations: None,
            expiration_seconds: wanted.expiration_seconds,
            bound_object_ref: Some(BoundObjectReference {
                api_version: Some("v1".into()),
                kind: Some("Pod".into()),
                name: meta.name.clone(),
                uid: meta.uid.clone(),
            }),
        }),
        ..TokenRequest::default()
    };
    let api = Api::<k8s_openapi::api::core::v1::ServiceAccount>::namespaced(
        runtime.context.client.clone(),
        namespace,
    );
    let failed = |why: String| {
        VolumeError::Missing(format!(
            "cannot get a token of service account {namespace}/{account}: {why}"
        ))
    };
    let answer = api
        .create_token_request(account, &PostParams::default(), &request)
        .await
        .map_err(|error| failed(error.to_string()))?;
    let status = answer
        .status
        .ok_or_else(|| failed("the API gave none".to_owned()))?;
    let life = wanted.expiration_seconds.unwrap_or(3600);
    let (Some(token), Some(expires)) = (status.token, status.expiration_timestamp) else {
        return Err(failed("the API gave none".to_owned()));
    };
    Ok((
        token,
        expires.0 - std::time::Duration::from_secs(life.unsigned_abs() / 5),
    ))
}

/// The keys of a ConfigMap or Secret as files.
struct Keys<'a> {
    kind: &'a str,
    name: &'a str,
    optional: Option<bool>,
}

impl Keys<'_> {
    fn add(
        &self,
        found: Option<BTreeMap<String, Vec<u8>>>,
        items: Option<&[KeyToPath]>,
        mode: Option<i32>,
        files: &mut Files,
    ) -> Result<(), VolumeError> {
        let mode = mode.unwrap_or(FILE_MODE);
        let optional = self.optional == Some(true);
        let Some(mut entries) = found else {
            return if optional {
                Ok(())
            } else {
                Err(VolumeError::Missing(format!(
                    "{} {:?} not found",
                    self.kind, self.name
                )))
            };
        };
        let Some(items) = items.filter(|items| !items.is_empty()) else {
            for (key, value) in entries {
                files.insert(checked(&key)?, (value, mode));
            }
            return Ok(());
        };
        for item in items {
            match entries.remove(&item.key) {
                Some(value) => {
                    files.insert(checked(&item.path)?, (value, item.mode.unwrap_or(mode)));
                }
                None if optional => {}
                None => {
                    return Err(VolumeError::Missing(format!(
                        "{} {:?}: references non-existent key: {}",
                        self.kind, self.name, item.key
                    )));
                }
            }
        }
        Ok(())
    }
}

fn downward_files(
    sources: &Sources<'_>,
    items: Option<&[DownwardAPIVolumeFile]>,
    mode: Option<i32>,
    files: &mut Files,
) -> Result<(), VolumeError> {
    for item in items.into_iter().flatten() {
        let text = match (&item.field_ref, &item.resource_field_ref) {
            (Some(field), _) => sources.field(field),
            (None, Some(resource)) => sources.resource(None, resource),
            (None, None) => Ok(String::new()),
        };
        let text = text.map_err(VolumeError::Missing)?;
        let mode = item.mode.or(mode).unwrap_or(FILE_MODE);
        files.insert(checked(&item.path)?, (text.into_bytes(), mode));
    }
    Ok(())
}

/// A path that stays below the volume, or an error that names it.
fn checked(path: &str) -> Result<String, VolumeError> {
    let inside = Path::new(path)
        .components()
        .all(|part| matches!(part, Component::Normal(_)));
    if inside && !path.is_empty() && !path.starts_with("..") {
        Ok(path.to_owned())
    } else {
        Err(VolumeError::Unsupported(format!(
            "path {path:?} does not stay inside the volume"
        )))
    }
}

/// Writes the files, unless they are there already. One step makes all of them visible.
fn write(volume: &Path, files: &Files, group: Option<i64>) -> io::Result<()> {
    make_folder(volume, 0o755)?;
    let link = volume.join(CURRENT);
    let before = fs::read_link(&link).ok().map(|target| volume.join(target));
    if before.as_ref().is_some_and(|before| is_same(before, files)) {
        return Ok(());
    }
    let name = format!("..{:016x}", rand::random::<u64>());
    let next = volume.join(&name);
    make_folder(&next, 0o755)?;
    for (path, (contents, mode)) in files {
        let target = next.join(path);
        if let Some(parent) = target.parent().filter(|parent| *parent != next) {
            make_folder(parent, 0o755)?;
        }
        let mut mode = u32::try_from(*mode).unwrap_or(0o644) & 0o777;
        if group.is_some() {
            // As with kubelets, the Pod's group may read what its owner may.
            mode |= (mode & 0o400) >> 3;
        }
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&target)?;
        io::Write::write_all(&mut file, contents)?;
        let group = group.and_then(|group| u32::try_from(group).ok());
        if group.is_some() {
            // Only root may; without, the mode decides.
            let _ = std::os::unix::fs::chown(&target, None, group);
        }
        fs::set_permissions(&target, fs::Permissions::from_mode(mode))?;
    }
    let moving = volume.join("..data_tmp");
    let _ = fs::remove_file(&moving);
    symlink(&name, &moving)?;
    fs::rename(&moving, &link)?;
    let top: BTreeSet<&str> = files.keys().filter_map(|path| path.split('/').next()).collect();
    for entry in fs::read_dir(volume)? {
        let entry = entry?;
        let file = entry.file_name();
        let stale =
            !file.to_string_lossy().starts_with("..") && !top.contains(file.to_string_lossy().as_ref());
        if stale {
            fs::remove_file(entry.path())?;
        }
    }
    for name in top {
        match symlink(Path::new(CURRENT).join(name), volume.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
    }
    match before {
        Some(before) => fs::remove_dir_all(before),
        None => Ok(()),
    }
}

fn is_same(folder: &Path, files: &Files) -> bool {
    fn count(folder: &Path) -> usize {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        entries
            .map(|entry| match entry.file_type() {
                Ok(kind) if kind.is_dir() => count(&entry.path()),
                _ => 1,
            })
            .sum()
    }
    count(folder) == files.len()
        && files
            .iter()
            .all(|(path, (contents, _))| fs::read(folder.join(path)).is_ok_and(|found| found == *contents))
}

impl Volumes {
    /// What a container mounts.
    pub(super) fn mounts(
        &self,
        container: &Container,
        variables: &BTreeMap<String, String>,
    ) -> Result<Vec<Mount>, String> {
        let mut mounts = Vec::new();
        for wanted in container.volume_mounts.iter().flatten() {
            let name = &wanted.name;
            let Some(source) = self.sources.get(name) else {
                return Err(format!(
                    "volumeMount {:?}: the Pod has no volume {name:?}",
                    wanted.mount_path
                ));
            };
            let sub = match (&wanted.sub_path, &wanted.sub_path_expr) {
                (_, Some(expression)) if !expression.is_empty() => super::env::expand(expression, variables),
                (Some(path), _) => path.clone(),
                _ => String::new(),
            };
            let source = match (source, sub.as_str()) {
                (source, "") => source.clone(),
                (MountSource::Bind(path), sub) => MountSource::Bind(below(path, sub)?),
                (MountSource::Volume(_), sub) => {
                    return Err(format!(
                        "volumeMount of {name:?}: subPath {sub:?} of a volume in memory is not supported"
                    ));
                }
            };
            mounts.push(Mount {
                source,
                target: wanted.mount_path.clone(),
                read_only: wanted.read_only == Some(true),
            });
        }
        Ok(mounts)
    }
}

/// A path in a volume, made if it is not there. Links must not lead out of it, not even to make a folder there: the container could have
/// made them.
fn below(volume: &Path, sub: &str) -> Result<PathBuf, String> {
    let failed = |error: io::Error| format!("subPath {sub:?}: {error}");
    let root = fs::canonicalize(volume).map_err(failed)?;
    let mut found = root.clone();
    for part in Path::new(sub).components() {
        let name = match part {
            Component::Normal(name) => name,
            Component::CurDir => continue,
            _ => return Err(format!("subPath {sub:?} does not stay inside the volume")),
        };
        let next = found.join(name);
        found = match fs::symlink_metadata(&next) {
            Ok(meta) if meta.is_symlink() => fs::canonicalize(&next).map_err(failed)?,
            Ok(_) => next,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::create_dir(&next).map_err(failed)?;
                fs::set_permissions(&next, fs::Permissions::from_mode(0o777)).map_err(failed)?;
                next
            }
            Err(error) => return Err(failed(error)),
        };
        if !found.starts_with(&root) {
            return Err(format!("subPath {sub:?} leads out of the volume"));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(entries: &[(&str, &str)]) -> Files {
        entries
            .iter()
            .map(|(path, text)| ((*path).to_owned(), (text.as_bytes().to_vec(), 0o640)))
            .collect()
    }

    #[test]
    fn files_change_in_one_step_and_old_ones_go() {
        let folder = tempfile::tempdir().unwrap();
        let volume = folder.path().join("v");
        write(&volume, &files(&[("a", "1"), ("deep/b", "2")]), None).unwrap();
        assert_eq!(fs::read_to_string(volume.join("a")).unwrap(), "1");
        assert_eq!(fs::read_to_string(volume.join("deep/b")).unwrap(), "2");
        let mode = fs::metadata(volume.join("a")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o640);
        let before = fs::read_link(volume.join(CURRENT)).unwrap();
        write(&volume, &files(&[("a", "1"), ("deep/b", "2")]), None).unwrap();
        assert_eq!(
            fs::read_link(volume.join(CURRENT)).unwrap(),
            before,
            "nothing has changed"
        );
        write(&volume, &files(&[("c", "3")]), None).unwrap();
        assert_eq!(fs::read_to_string(volume.join("c")).unwrap(), "3");
        assert!(!volume.join("a").exists() && !volume.join(before).exists());
    }

    #[test]
    fn paths_stay_inside() {
        for path in ["../x", "/etc/passwd", "", "a/../../b", "..data"] {
            assert!(checked(path).is_err(), "{path}");
        }
        assert!(checked("a/b.txt").is_ok());
        let folder = tempfile::tempdir().unwrap();
        symlink("/etc", folder.path().join("out")).unwrap();
        assert!(below(folder.path(), "out").unwrap_err().contains("leads out"));
        let outside = tempfile::tempdir().unwrap();
        symlink(outside.path(), folder.path().join("elsewhere")).unwrap();
        let made = below(folder.path(), "elsewhere/made");
        assert!(made.unwrap_err().contains("leads out"));
        assert!(!outside.path().join("made").exists(), "nothing is made outside");
        symlink("new", folder.path().join("inner")).unwrap();
        assert!(below(folder.path(), "new/one").unwrap().is_dir());
        assert!(below(folder.path(), "inner/two").unwrap().ends_with("new/two"));
        assert!(below(folder.path(), "../x").is_err());
    }
}
