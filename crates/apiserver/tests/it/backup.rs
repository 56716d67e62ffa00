//! The backup of a server in use.

use choreo_apiserver::UserInfo;
use choreo_store::Store;
use http::Request;
use serde_json::json;

use crate::support::{CONFIG_MAPS, TestServer, config_map};

#[tokio::test]
async fn a_backup_has_what_was_there_when_it_was_made() {
    let folder = tempfile::tempdir().unwrap();
    let server = TestServer::over(Store::open(folder.path().join("store")).unwrap());
    server
        .post(CONFIG_MAPS, config_map("before", json!({"a": "b"})))
        .await
        .expect(201);
    let backup = server.get("/backup").await;
    assert_eq!(backup.status, 200, "{}", backup.text);
    assert_eq!(backup.header("content-length"), backup.bytes.len().to_string());
    server
        .post(CONFIG_MAPS, config_map("after", json!({})))
        .await
        .expect(201);
    let left: Vec<_> = std::fs::read_dir(folder.path().join("store"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.contains("backup"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
    drop(server);

    let file = folder.path().join("file");
    std::fs::write(&file, &backup.bytes).unwrap();
    Store::restore(&file, folder.path().join("restored")).unwrap();
    let restored = TestServer::over(Store::open(folder.path().join("restored")).unwrap());
    let before = restored.get(&format!("{CONFIG_MAPS}/before")).await.expect(200);
    assert_eq!(before["data"], json!({"a": "b"}));
    restored.get(&format!("{CONFIG_MAPS}/after")).await.expect(404);
}

#[tokio::test]
async fn who_has_no_right_to_it_gets_none() {
    let folder = tempfile::tempdir().unwrap();
    let server = TestServer::over(Store::open(folder.path()).unwrap());
    let someone = UserInfo {
        name: "jane".into(),
        groups: vec!["system:authenticated".into()],
        ..UserInfo::anonymous()
    };
    let request = Request::get("/backup").extension(someone);
    server
        .send(request.body(axum::body::Body::empty()).unwrap())
        .await
        .expect(403);
    // Nobody gets the whole store by way of one logical cluster.
    assert_eq!(server.get("/clusters/local/backup").await.status, 404);
    server.delete("/backup").await.expect(405);
    let memory = TestServer::start();
    assert!(
        memory.get("/backup").await.expect(400)["message"]
            .as_str()
            .unwrap()
            .contains("in memory")
    );
}
