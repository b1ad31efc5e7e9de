//! Reviews over TLS, readiness, numbers and the end.

use crate::running::{Failure, PATIENCE, Running, Tested, patched, pod, review_of, start};
use axum::body::Body;
use axum::http::{Request, StatusCode};
use http_body_util::BodyExt;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::time::Instant;
use tokio::net::TcpStream;

/// Whether the answer injects and obeys the Namespace's label.
pub(crate) fn obeys_the_label(answer: &Value) -> Tested {
    let after = patched(&pod(), answer)?;
    let context = &after["spec"]["initContainers"][0]["securityContext"];
    assert_eq!(context["runAsNonRoot"], true, "the namespace's label turns transparent proxy off");
    Ok(())
}

#[tokio::test]
async fn a_review_over_tls() -> Tested {
    let server = start(true).await?;
    server.becomes(StatusCode::OK).await?;
    obeys_the_label(&server.review("web").await?)
}

#[tokio::test]
async fn a_namespace_that_the_watch_does_not_know_is_asked_for() -> Tested {
    let server = start(false).await?;
    let (status, why) = server.ready().await?;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(why.starts_with("waiting for the list of namespaces, services"), "{why}");
    obeys_the_label(&server.review("late").await?)?;
    server.open.send_replace(true);
    server.becomes(StatusCode::OK).await?;
    obeys_the_label(&server.review("late").await?)
}

#[tokio::test]
async fn a_namespace_that_nobody_knows_is_a_failure() -> Tested {
    let server = start(true).await?;
    let answer = server.review("nowhere").await?;
    assert_eq!(answer["response"]["allowed"], false);
    assert_eq!(answer["response"]["status"]["code"], 500);
    let message = answer["response"]["status"]["message"].as_str().unwrap_or_default();
    assert!(message.contains("error getting namespace metadata") && message.contains("nowhere"), "{message}");
    Ok(())
}

#[tokio::test]
async fn nonsense_leaves_it_serving() -> Tested {
    let server = start(true).await?;
    server.becomes(StatusCode::OK).await?;
    for body in [String::new(), "{".to_owned(), "[".repeat(100_000)] {
        let (status, text) = server.post(body).await?;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{text}");
    }
    let (status, _) = server.post(" ".repeat(9 * 1024 * 1024)).await?;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    obeys_the_label(&server.review("web").await?)
}

#[tokio::test]
async fn a_request_under_way_is_finished() -> Tested {
    let server = start(true).await?;
    server.becomes(StatusCode::OK).await?;
    let io = TokioIo::new(server.tls("http/1.1").await?);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await?;
    tokio::spawn(connection);
    // The head is sent with half of the body, then the server is told to stop, then the rest follows.
    let body = review_of(&pod(), "web").to_string();
    let (first, second) = body.split_at(body.len() / 2);
    let (halves, rest) = tokio::sync::mpsc::unbounded_channel::<Result<String, std::io::Error>>();
    halves.send(Ok(first.to_owned()))?;
    let stream = futures::stream::unfold(rest, async |mut rest| Some((rest.recv().await?, rest)));
    let request = Request::post("/mutate").header("host", "localhost").body(Body::from_stream(stream))?;
    let response = tokio::spawn(sender.send_request(request));
    // Another connection sees the request's predecessor answered, so the head above has been read by then.
    obeys_the_label(&server.review("web").await?)?;
    let Running { stop, ended, reviews, .. } = server;
    stop.send(()).map_err(|()| Failure::from("the server is gone"))?;
    let deadline = Instant::now() + PATIENCE;
    while TcpStream::connect(reviews).await.is_ok() {
        assert!(Instant::now() < deadline, "the server still accepts connections");
        tokio::task::yield_now().await;
    }
    halves.send(Ok(second.to_owned()))?;
    drop(halves);
    let answer = response.await??;
    assert_eq!(answer.status(), StatusCode::OK);
    let answer: Value = serde_json::from_slice(&answer.into_body().collect().await?.to_bytes())?;
    assert_eq!(answer["response"]["allowed"], true);
    tokio::time::timeout(PATIENCE, ended).await???;
    Ok(())
}

#[tokio::test]
async fn what_was_done_is_counted() -> Tested {
    let server = start(true).await?;
    server.becomes(StatusCode::OK).await?;
    let answer = server.review("web").await?;
    server.review("kube-system").await?;
    server.post("{").await?;
    let warnings = answer["response"]["warnings"].to_string();
    assert!(warnings.contains("Services a, b select the pod"), "{warnings}");
    let numbers = server.numbers().await?;
    for line in [
        "pellucid_webhook_reviews_total{outcome=\"injected\"} 1",
        "pellucid_webhook_reviews_total{outcome=\"unchanged\"} 1",
        "pellucid_webhook_rejected_requests_total{reason=\"unreadable\"} 1",
        "pellucid_webhook_warnings_total 1",
        "pellucid_webhook_watch_synced{resource=\"namespaces\"} 1",
        "pellucid_webhook_namespace_requests_total 0",
        "pellucid_webhook_reviews_under_way 0",
        "pellucid_webhook_review_duration_seconds_count 3",
    ] {
        assert!(numbers.lines().any(|known| known == line), "{line} in {numbers}");
    }
    Ok(())
}
