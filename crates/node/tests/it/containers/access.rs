//! Logs, commands and ports of Pods that run.

use choreo_pod_access::{
    AccessError, AttachRequest, ExecRequest, LogQuery, LogSource, Output, PodAccess as _,
};
use futures::StreamExt;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::bed::{Bed, container, waits_for};

async fn log(bed: &Bed, pod: &str, query: LogQuery) -> Result<String, AccessError> {
    let stream = bed.agent.logs("default", pod, query).await?;
    let pieces: Vec<_> = stream.map(|piece| piece.unwrap()).collect().await;
    Ok(String::from_utf8(pieces.concat()).unwrap())
}

#[tokio::test]
async fn logs_of_this_run_and_of_the_one_before() {
    let Some(bed) = Bed::start().await else { return };
    bed.pod(
        "talk",
        json!({"containers": [{"name": "main", "args": ["exit", "5"]}, {"name": "other"}]}),
    )
    .await;
    bed.until_pod("talk", |pod| {
        waits_for(pod, "main") == "CrashLoopBackOff" && container(pod, "main")["restartCount"] == 1
    })
    .await;
    let of = |change: fn(&mut LogQuery)| {
        let mut query = LogQuery {
            container: Some("main".into()),
            ..LogQuery::default()
        };
        change(&mut query);
        query
    };
    let all = log(&bed, "talk", of(|_| {})).await.unwrap();
    assert!(
        all.contains("out: ending with 5\n") && all.contains("err: ending with 5\n"),
        "{all:?}"
    );
    assert_eq!(
        log(&bed, "talk", of(|query| query.tail_lines = Some(1)))
            .await
            .unwrap()
            .lines()
            .count(),
        1
    );
    assert_eq!(
        log(&bed, "talk", of(|query| query.limit_bytes = Some(4)))
            .await
            .unwrap()
            .len(),
        4
    );
    let timed = log(&bed, "talk", of(|query| query.timestamps = true))
        .await
        .unwrap();
    let time = timed.split(' ').next().unwrap();
    assert!(time.parse::<jiff::Timestamp>().is_ok(), "{timed:?}");
    let none = log(
        &bed,
        "talk",
        of(|query| query.since = Some("2100-01-01T00:00:00Z".parse().unwrap())),
    )
    .await
    .unwrap();
    assert_eq!(none, "");
    let previous = log(&bed, "talk", of(|query| query.previous = true))
        .await
        .unwrap();
    assert!(previous.contains("ending with 5"), "{previous:?}");

    let required = log(&bed, "talk", LogQuery::default()).await.unwrap_err();
    assert_eq!(
        required,
        AccessError::ContainerRequired {
            names: vec!["main".into(), "other".into()]
        }
    );
    assert!(matches!(
        log(&bed, "nobody", LogQuery::default()).await,
        Err(AccessError::NotFound { .. })
    ));
    let never = LogQuery {
        container: Some("other".into()),
        previous: true,
        ..LogQuery::default()
    };
    assert!(matches!(
        log(&bed, "talk", never).await,
        Err(AccessError::NotFound { .. })
    ));
    bed.finish().await;
}

#[tokio::test]
async fn a_log_is_followed_until_the_container_ends() {
    let Some(bed) = Bed::start().await else { return };
    bed.pod(
        "slow",
        json!({"restartPolicy": "Never", "containers": [{"name": "main", "args": ["exit", "0", "1500"]}]}),
    )
    .await;
    bed.until_pod("slow", |pod| {
        container(pod, "main")["state"]["running"].is_object()
    })
    .await;
    let text = log(
        &bed,
        "slow",
        LogQuery {
            follow: true,
            ..LogQuery::default()
        },
    )
    .await
    .unwrap();
    assert!(text.contains("out: ending with 0"), "{text:?}");
    bed.finish().await;
}

#[tokio::test]
async fn commands_have_streams_and_exit_codes() {
    let Some(bed) = Bed::start().await else { return };
    bed.pod("box", json!({})).await;
    bed.until_ready("box").await;
    let request = |command: &[&str], stdin: bool| ExecRequest {
        command: command.iter().map(|word| (*word).to_owned()).collect(),
        stdin,
        stdout: true,
        stderr: true,
        ..ExecRequest::default()
    };
    let session = bed
        .agent
        .exec("default", "box", request(&["/probe", "exit", "42"], false))
        .await
        .unwrap();
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut output = session.output;
    while let Some(piece) = output.next().await {
        match piece.unwrap() {
            Output::Stdout(bytes) => out.extend(bytes),
            Output::Stderr(bytes) => err.extend(bytes),
        }
    }
    assert_eq!(String::from_utf8(out).unwrap(), "out: ending with 42\n");
    assert_eq!(String::from_utf8(err).unwrap(), "err: ending with 42\n");
    assert_eq!(session.exit.await.unwrap(), 42);

    let mut session = bed
        .agent
        .exec("default", "box", request(&["/probe", "echo"], true))
        .await
        .unwrap();
    let mut stdin = session.stdin.take().unwrap();
    stdin.write_all(b"through and back\n").await.unwrap();
    let piece = session.output.next().await.unwrap().unwrap();
    assert_eq!(piece, Output::Stdout("through and back\n".into()));
    stdin.shutdown().await.unwrap();
    drop(stdin);
    bed.finish().await;
}

#[tokio::test]
async fn a_port_of_a_pod_and_its_own_streams() {
    let Some(bed) = Bed::start().await else { return };
    bed.pod(
        "box",
        json!({"containers": [{"name": "main", "args": ["serve", "--name", "here"]}]}),
    )
    .await;
    bed.pod(
        "talker",
        json!({"containers": [{"name": "main", "stdin": true, "args": ["echo"]}]}),
    )
    .await;
    bed.until_ready("box").await;
    bed.until_ready("talker").await;
    let mut stream = None;
    for _ in 0..100 {
        match bed.agent.port_forward("default", "box", 8080).await {
            Ok(found) => {
                stream = Some(found);
                break;
            }
            Err(_) => tokio::time::sleep(std::time::Duration::from_millis(20)).await,
        }
    }
    let mut stream = stream.unwrap();
    stream
        .write_all(b"GET / HTTP/1.1\r\nconnection: close\r\n\r\n")
        .await
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.ends_with("here"), "{answer}");
    assert!(matches!(
        bed.agent.port_forward("default", "box", 1).await,
        Err(AccessError::NotRunning { .. })
    ));

    let request = AttachRequest {
        stdin: true,
        stdout: true,
        stderr: true,
        ..AttachRequest::default()
    };
    let mut session = bed.agent.attach("default", "talker", request).await.unwrap();
    session
        .stdin
        .as_mut()
        .unwrap()
        .write_all(b"hello\n")
        .await
        .unwrap();
    let piece = session.output.next().await.unwrap().unwrap();
    assert_eq!(piece, Output::Stdout("hello\n".into()));

    let stats = bed.agent.stats().await.unwrap();
    let box_stats = stats.iter().find(|stats| stats.pod == "box").unwrap();
    assert!(box_stats.containers[0].memory_bytes > 0, "{stats:?}");
    bed.finish().await;
}

#[tokio::test]
async fn one_of_the_two_outputs_can_be_asked_for() {
    let Some(bed) = Bed::start().await else { return };
    bed.pod(
        "both",
        json!({"restartPolicy": "Never", "containers": [{"name": "main", "args": ["exit", "0"]}]}),
    )
    .await;
    bed.until_pod("both", |pod| pod["status"]["phase"] == "Succeeded")
        .await;
    let of = async |stream| {
        let query = LogQuery {
            stream,
            ..LogQuery::default()
        };
        log(&bed, "both", query).await.unwrap()
    };
    assert_eq!(of(LogSource::Stdout).await, "out: ending with 0\n");
    assert_eq!(of(LogSource::Stderr).await, "err: ending with 0\n");
    assert_eq!(of(LogSource::All).await.lines().count(), 2);
    bed.finish().await;
}
