//! `GET /backup`: everything as it is at this moment, as a file to restore from, while the server stays in use.
//!
//! The file has the objects of all logical clusters, Secrets included. It is given out on the plain path only, whose roles
//! decide who may have it; a logical cluster's own administrators have no say over the others.

use std::io::{self, ErrorKind, Read as _};
use std::path::Path;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use choreo_apimachinery::status::{ApiError, Result};
use futures::stream;
use http::header::{CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderValue, Method};

use crate::dispatch::Context;

/// Bytes read from the file at once.
const PIECE: usize = 256 * 1024;

/// Answers the path; none for another path.
///
/// # Errors
/// 405 for another method than GET, 429 while another backup is made, 400 when there is nothing on disk.
pub(crate) async fn answer(context: &Context) -> Result<Option<Response>> {
    let on_plain_path = context.cluster.name() == context.server.default_cluster().name();
    if context.info.path.trim_end_matches('/') != "/backup" || !on_plain_path {
        return Ok(None);
    }
    if context.method != Method::GET {
        return Err(ApiError::method_not_allowed());
    }
    let store = context.server.store();
    let Some(folder) = store.folder() else {
        return Err(ApiError::bad_request(
            "the objects are in memory only: there is nothing on disk to back up",
        ));
    };
    let Ok(_turn) = context.server.backups().try_lock() else {
        return Err(ApiError::too_many_requests("another backup is being made", 5));
    };
    // One at a time, so what is there is left over from a process that was killed meanwhile.
    let target = folder.join("backup.tmp");
    remove(&target).map_err(ApiError::internal)?;
    store.backup(&target).await.map_err(ApiError::internal)?;
    let opened = std::fs::File::open(&target).and_then(|file| Ok((file.metadata()?.len(), file)));
    // Without its name the file lasts as long as it is read, whatever becomes of the client.
    remove(&target).map_err(ApiError::internal)?;
    let (length, file) = opened.map_err(ApiError::internal)?;

    let pieces = stream::try_unfold(file, |file| async move {
        let read = tokio::task::spawn_blocking(move || piece(file)).await;
        read.map_err(io::Error::other)?
    });
    let mut response = Response::new(Body::from_stream(pieces));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(
        CONTENT_DISPOSITION,
        HeaderValue::from_static("attachment; filename=\"choreo.backup\""),
    );
    Ok(Some(response))
}

/// The next piece of a file; none at its end.
fn piece(mut file: std::fs::File) -> io::Result<Option<(Bytes, std::fs::File)>> {
    let mut buffer = vec![0; PIECE];
    let read = file.read(&mut buffer)?;
    buffer.truncate(read);
    Ok((read > 0).then(|| (buffer.into(), file)))
}

fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
