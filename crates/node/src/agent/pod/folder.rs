//! Folders of Pods and claims that go.

use std::{path::Path, time::Duration};

use crate::agent::{
    Runtime,
    engine::{ContainerSpec, EngineError, Mount, MountSource, NetworkMode, Phase},
    labels::{self, Role},
    relay_image::PROGRAM,
};

/// Removes a folder of a Pod or claim. Files that belong to a container's user may be out of this process' reach: then the engine does it.
pub(in crate::agent) async fn remove_folder(runtime: &Runtime, path: &Path) {
    let own = path.to_owned();
    let removed = tokio::task::spawn_blocking(move || std::fs::remove_dir_all(own)).await;
    match removed {
        Ok(Ok(())) => return,
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::NotFound => return,
        _ => {}
    }
    let work = async {
        let image = runtime.cells.image(runtime).await?;
        let spec = ContainerSpec {
            name: format!(
                "choreo-{}_clean_{:08x}",
                labels::short(&runtime.instance),
                rand::random::<u32>()
            ),
            image,
            labels: [
                (labels::INSTANCE.to_owned(), runtime.instance.clone()),
                (labels::ROLE.to_owned(), Role::HELPER.to_owned()),
            ]
            .into(),
            entrypoint: Some(vec![PROGRAM.into()]),
            command: Some(vec!["empty".into(), "/volume".into()]),
            user: Some("0:0".into()),
            network: NetworkMode::None,
            mounts: vec![Mount {
                source: MountSource::Bind(path.to_owned()),
                target: "/volume".into(),
                read_only: false,
            }],
            ..ContainerSpec::default()
        };
        let id = runtime.engine.create(&spec).await?;
        let outcome = runtime.engine.start(&id).await;
        for _ in 0..100 {
            match runtime.engine.inspect(&id).await {
                Ok(found) if found.phase == Phase::Running => {
                    tokio::time::sleep(Duration::from_millis(50)).await
                }
                _ => break,
            }
        }
        runtime.engine.remove(&id).await?;
        outcome
    };
    let outcome: Result<(), EngineError> = work.await;
    if let Err(error) = outcome {
        tracing::warn!(path = %path.display(), "cannot be removed: {error}");
    }
    let _ = std::fs::remove_dir_all(path);
}
