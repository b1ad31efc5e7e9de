//! Requests that nobody who means well would send: the server answers or drops them, and goes on.

use crate::running::{Running, Tested, pod, review_of, start, tls};
use crate::serving::obeys_the_label;
use axum::http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

type Client = SendRequest<Full<axum::body::Bytes>>;

async fn connect(server: &Running) -> Result<Client, crate::running::Failure> {
    let io = TokioIo::new(server.tls("h2").await?);
    let (sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await?;
    tokio::spawn(connection);
    Ok(sender)
}

/// A body of the `number`th kind.
fn hostile(number: usize, random: &mut SmallRng) -> Vec<u8> {
    let good = review_of(&pod(), "web").to_string().into_bytes();
    match number % 8 {
        // truncated
        0 => good[..random.random_range(0..good.len())].to_vec(),
        // bytes changed, most of them to no UTF-8
        1 => {
            let mut bytes = good;
            for _ in 0..8 {
                let at = random.random_range(0..bytes.len());
                bytes[at] = random.random();
            }
            bytes
        }
        // deep
        2 => review_of(&json!({"metadata": {"name": "x"}}), "web")
            .to_string()
            .replace(
                "\"name\":\"x\"",
                &format!("\"managedFields\":[{{\"fieldsV1\":{}{}}}]", "[".repeat(5000), "]".repeat(5000)),
            )
            .into_bytes(),
        // wrong types
        3 => {
            let mut object = pod();
            let wrong = [json!(1), json!("x"), json!([]), json!(null), json!({"a": []})];
            let fields =
                ["/metadata/annotations", "/spec/containers", "/spec/containers/0/ports", "/spec", "/metadata"];
            let field = fields[random.random_range(0..fields.len())];
            if let Some(place) = object.pointer_mut(field) {
                *place = wrong[random.random_range(0..wrong.len())].clone();
            }
            review_of(&object, "web").to_string().into_bytes()
        }
        // long lists in annotations
        4 => {
            let mut object = pod();
            object["metadata"]["annotations"]["consul.hashicorp.com/transparent-proxy-exclude-inbound-ports"] =
                json!("1,".repeat(2000));
            object["metadata"]["annotations"]["consul.hashicorp.com/connect-service-upstreams"] =
                json!("a:http,".repeat(500));
            review_of(&object, "web").to_string().into_bytes()
        }
        // many containers
        5 => {
            let mut object = pod();
            let containers: Vec<_> = (0..200).map(|i| json!({"name": format!("c{i}")})).collect();
            object["spec"]["containers"] = json!(containers);
            review_of(&object, "web").to_string().into_bytes()
        }
        // no review at all
        6 => (0..random.random_range(0..512)).map(|_| random.random()).collect(),
        // another kind, version or nothing asked
        _ => json!({"apiVersion": "admission.k8s.io/v9", "kind": "AdmissionReview"}).to_string().into_bytes(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_of_them_leave_it_serving() -> Tested {
    let server = start(true).await?;
    server.becomes(StatusCode::OK).await?;
    // these never end by themselves: half a head, half a body, half a handshake
    let (mut slow, mut half_open) = (Vec::new(), Vec::new());
    for _ in 0..50 {
        let mut half = server.tls("http/1.1").await?;
        half.write_all(b"POST /mutate HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100000\r\n\r\n{").await?;
        slow.push(half);
        let mut raw = TcpStream::connect(server.reviews).await?;
        raw.write_all(&[0x16, 0x03, 0x01, 0x00, 0xff]).await?;
        half_open.push(raw);
    }
    let mut random = SmallRng::seed_from_u64(1);
    let mut client = connect(&server).await?;
    let mut refused = 0;
    for number in 0..10_000 {
        let body = hostile(number, &mut random);
        let request = Request::post("https://localhost/mutate").body(Full::new(body.into()))?;
        let Ok(answer) = client.send_request(request).await else {
            client = connect(&server).await?;
            continue;
        };
        let status = answer.status();
        let body = answer.into_body().collect().await?.to_bytes();
        assert!(status == StatusCode::OK || status == StatusCode::BAD_REQUEST, "{status}: {body:?}");
        refused += usize::from(status == StatusCode::BAD_REQUEST);
    }
    assert!(refused > 4_000, "only {refused} were no reviews");
    obeys_the_label(&server.review("web").await?)?;
    let numbers = server.numbers().await?;
    assert!(numbers.contains("pellucid_webhook_reviews_under_way 0"), "{numbers}");
    drop((slow, half_open));
    Ok(())
}

#[tokio::test]
async fn garbage_instead_of_tls() -> Tested {
    let server = start(true).await?;
    server.becomes(StatusCode::OK).await?;
    let mut raw = TcpStream::connect(server.reviews).await?;
    raw.write_all(b"POST /mutate HTTP/1.1\r\nhost: localhost\r\n\r\n").await?;
    let mut answer = Vec::new();
    // an alert, or nothing, and then the end
    raw.read_to_end(&mut answer).await.ok();
    assert!(answer.len() < 64, "{answer:?}");
    let other = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    assert!(tls(server.reviews, "localhost", other.cert.der().clone(), "h2").await.is_err(), "another authority");
    obeys_the_label(&server.review("web").await?)
}
