//! The client against the server, over each protocol, and against servers that behave as proxies and hosts do.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rstest::rstest;
use workload::report::{Load, Outcome, Report};

const PROGRAM: &str = env!("CARGO_BIN_EXE_workload");

/// A server that dies with the test.
struct Server {
    process: Child,
    port: u16,
}

impl Drop for Server {
    fn drop(&mut self) {
        // already gone when the test is about its end
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    listener.local_addr().expect("its address").port()
}

fn serve(kind: &str, more: &[&str]) -> Server {
    let port = free_port();
    let process = Command::new(PROGRAM)
        .args(["serve", "--name", "echo-0", &format!("--{kind}"), &port.to_string()])
        .args(more)
        .stdin(Stdio::null())
        .spawn()
        .expect("the server starts");
    let deadline = Instant::now() + Duration::from_secs(10);
    // an ICMP port unreachable says that nobody listens yet, for UDP
    let probe = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
    probe.connect((Ipv4Addr::LOCALHOST, port)).expect("a peer");
    probe.set_read_timeout(Some(Duration::from_millis(50))).expect("a time-out");
    let up = || match kind {
        "udp" => probe.send(b"?").is_ok() && probe.recv(&mut [0; 8]).is_ok(),
        _ => TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok(),
    };
    while !up() {
        assert!(Instant::now() < deadline, "{kind} server does not listen");
        thread::yield_now();
    }
    Server { process, port }
}

fn client(arguments: &[&str]) -> Report {
    let output = Command::new(PROGRAM).args(arguments).stdin(Stdio::null()).output().expect("the client runs");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let mut reports = Report::parse_all(&text);
    let report = reports.next().unwrap_or_else(|| panic!("no report; {}", String::from_utf8_lossy(&output.stderr)));
    assert_eq!(reports.next(), None, "one line for one attempt");
    assert_eq!(output.status.success(), report.ok, "the exit status says the same");
    report
}

fn answered(report: &Report) -> &str {
    assert_eq!(report.outcome, Outcome::Answered, "{report:?}");
    report.body.as_deref().expect("a body")
}

#[rstest]
#[case::tcp("tcp", "tcp")]
#[case::udp("udp", "udp")]
#[case::tls("tls", "tls")]
#[case::http("http", "http")]
#[case::grpc("grpc", "grpc")]
#[case::a_line_to_an_http_server("http", "tcp")]
#[case::server_first("server-first", "tcp")]
fn a_dial_is_answered_with_its_canary_and_the_servers_name(#[case] server: &str, #[case] protocol: &str) {
    let server = serve(server, &[]);
    let report = client(&["dial", protocol, &format!("127.0.0.1:{}", server.port), "--canary", "c4n4ry"]);
    let body = answered(&report);
    assert!(body.contains("c4n4ry"), "{body}");
    let is_grpc = protocol == "grpc";
    assert!(is_grpc || body.contains("instance=echo-0"), "{body}");
    assert_eq!(report.instance.as_deref(), Some("echo-0"));
    assert_eq!(report.peer, Some(SocketAddr::from((Ipv4Addr::LOCALHOST, server.port))));
    assert_eq!(report.uid, Some(nix::unistd::getuid().as_raw()));
    assert!(report.local.is_some_and(|local| local.ip().is_loopback() && local.port() > 0));
}

/// Programs differ in who finds addresses for them; what they say of it is the same.
#[rstest]
#[case::glibc("glibc", "localhost")]
#[case::musl("musl", "localhost")]
#[case::rust("rust", "127.0.0.1")]
fn a_request_is_answered_whoever_resolves(#[case] resolver: &str, #[case] host: &str) {
    let server = serve("http", &[]);
    let request = |path: &str| {
        let url = format!("http://{host}:{}{path}", server.port);
        client(&["request", &url, "--canary", "c4n4ry", "--resolver", resolver])
    };
    let report = request("/");
    assert!(answered(&report).contains("c4n4ry"), "{report:?}");
    assert_eq!((report.instance.as_deref(), report.status, report.ok), (Some("echo-0"), Some(200), true));
    assert_eq!(report.peer, Some(SocketAddr::from((Ipv4Addr::LOCALHOST, server.port))));
    assert_eq!(report.uid, Some(nix::unistd::getuid().as_raw()));
    assert_eq!(report.canary.as_deref(), Some("c4n4ry"));
    assert!(report.local.is_some_and(|local| local.ip().is_loopback() && local.port() > 0));
}

#[rstest]
#[case::refused(None, Outcome::Refused)]
#[case::closed_without_an_answer(Some(""), Outcome::Reset)]
#[case::closed_in_an_answer(Some("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf"), Outcome::Closed)]
#[case::answered_without_a_length(Some("HTTP/1.1 404 Not Found\r\nx-instance: a\r\n\r\nno"), Outcome::Answered)]
fn what_musl_is_told(#[case] says: Option<&'static str>, #[case] outcome: Outcome) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let port = listener.local_addr().expect("its address").port();
    let serving = says.map(|says| {
        let listener = listener.try_clone().expect("a listener");
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a connection");
            let (mut asked, mut piece) = (Vec::new(), [0; 1024]);
            // all of it: a connection that ends with something unread is reset, and the answer with it
            while !asked.ends_with(b"\r\n\r\n") {
                let length = stream.read(&mut piece).expect("a request");
                assert!(length > 0, "the request ends early: {}", String::from_utf8_lossy(&asked));
                asked.extend_from_slice(&piece[..length]);
            }
            stream.write_all(says.as_bytes()).expect("an answer");
        })
    });
    drop(listener);
    let report = client(&["request", &format!("http://127.0.0.1:{port}"), "--resolver", "musl"]);
    assert_eq!(report.outcome, outcome, "{report:?}");
    if outcome == Outcome::Answered {
        assert_eq!((report.status, report.ok, report.body.as_deref()), (Some(404), false, Some("no")));
    }
    serving.map_or(Ok(()), |server| server.join()).expect("the server ends");
}

#[rstest]
#[case::glibc("glibc")]
#[case::musl("musl")]
fn a_c_library_looks_names_up(#[case] resolver: &str) {
    let report = client(&["lookup", "localhost", "--resolver", resolver]);
    assert_eq!((report.outcome, report.rcode.as_deref()), (Outcome::Answered, Some("NOERROR")));
    assert!(report.answers.is_some_and(|all| all.iter().all(std::net::IpAddr::is_loopback) && !all.is_empty()));
}

#[rstest]
#[case("http", "http", "ping-http1")]
#[case("grpc", "grpc", "ping-grpc")]
#[case("tcp", "tcp", "ping-tcp")]
#[case("tls", "tls", "ping-application-tls")]
#[case("tcp", "tcp", "64 KiB")]
#[case("tcp", "tcp", "3 MiB then half-close")]
#[case("tcp", "tcp", "1 byte every 20 ms for 1 s")]
fn a_payload_comes_back(#[case] server: &str, #[case] protocol: &str, #[case] payload: &str) {
    let server = serve(server, &[]);
    let target = format!("localhost:{}", server.port);
    let report = client(&["send", protocol, &target, payload, "--canary", "c4n4ry"]);
    assert!(answered(&report).contains(payload), "{report:?}");
    if payload.contains(' ') {
        assert!(answered(&report).contains(&format!("sha256 of {payload}")));
    }
}

#[test]
fn https_is_http_in_tls() {
    let server = serve("https", &[]);
    let report = client(&["request", &format!("https://127.0.0.1:{}/healthz", server.port)]);
    assert!(answered(&report).contains("path=/healthz"), "{report:?}");
    let plain = client(&["request", &format!("http://127.0.0.1:{}/healthz", server.port)]);
    assert_ne!(plain.outcome, Outcome::Answered, "{plain:?}");
}

#[test]
fn bytes_come_back_as_they_are() {
    let server = serve("tcp", &[]);
    let report = client(&["send", "tcp", &format!("127.0.0.1:{}", server.port), r"NOT-HTTP\x00\xff\x02"]);
    assert_eq!(report.body_hex.as_deref(), Some("4e4f542d4854545000ff02"));
}

#[test]
fn an_http_answer_says_what_was_asked() {
    let port_name = free_port();
    let server = serve("http", &["--text", "hello world", "--port-name", &format!("other={port_name}")]);
    let url = format!("http://127.0.0.1:{}/some/path?q=1", server.port);
    let report = client(&["request", &url, "--canary", "c4n4ry", "--method", "PUT", "--body", "the body"]);
    let body = answered(&report);
    assert_eq!(report.status, Some(200));
    let headers = report.headers.as_deref().unwrap_or_default();
    assert!(headers.lines().any(|line| line == "x-canary: c4n4ry"), "{headers}");
    let lines: Vec<&str> = body.lines().collect();
    assert_eq!(
        lines[..5],
        ["hello world", "instance=echo-0", &format!("port={}", server.port), "path=/some/path", "method=PUT"]
    );
    assert!(lines.contains(&"header x-canary: c4n4ry"), "{body}");
    assert!(body.ends_with("the body"), "{body}");
}

#[rstest]
#[case("/status/503", 503, false)]
#[case("/status/302", 302, true)]
#[case("/healthz", 200, true)]
#[case("/status/100", 200, true)]
fn a_status_is_what_the_path_asks_for(#[case] path: &str, #[case] status: u16, #[case] ok: bool) {
    let server = serve("http", &[]);
    let report = client(&["request", &format!("http://127.0.0.1:{}{path}", server.port)]);
    assert_eq!((report.status, report.ok), (Some(status), ok));
    assert_eq!(report.outcome, Outcome::Answered);
}

#[test]
fn a_named_port_says_its_name() {
    let port = free_port();
    let named = format!("metrics={port}");
    let mut process = Command::new(PROGRAM)
        .args(["serve", "--http", &port.to_string(), "--port-name", &named])
        .stdin(Stdio::null())
        .spawn()
        .expect("the server starts");
    let deadline = Instant::now() + Duration::from_secs(10);
    let report = loop {
        let report = client(&["request", &format!("http://127.0.0.1:{port}/")]);
        if report.ok || Instant::now() > deadline {
            break report;
        }
    };
    process.kill().expect("the server ends");
    process.wait().expect("the server ends");
    assert!(answered(&report).contains(&format!("port={port} metrics\n")));
}

/// What a peer does with a connection after the first bytes have come.
#[derive(Clone, Copy)]
enum Manner {
    Close,
    Reset,
    TlsAlert,
    HalfAnAnswer,
    Silence,
}

/// Takes one connection and treats it in this manner.
fn rude(manner: Manner) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let address = listener.local_addr().expect("its address");
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        let read = match manner {
            // unread bytes make the kernel answer a close with a reset
            Manner::Reset => stream.peek(&mut [0; 4]),
            _ => stream.read(&mut [0; 4096]),
        };
        read.expect("a request");
        match manner {
            Manner::Close | Manner::Reset => {}
            Manner::TlsAlert => stream.write_all(&[21, 3, 3, 0, 2, 2, 70]).expect("written"),
            Manner::HalfAnAnswer => stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-le").expect("written"),
            // until the client gives up
            Manner::Silence => drop(stream.read(&mut [0; 4096])),
        }
    });
    address
}

#[rstest]
#[case::close(Manner::Close, "http", Outcome::Reset)]
#[case::reset(Manner::Reset, "http", Outcome::Reset)]
#[case::alert(Manner::TlsAlert, "http", Outcome::Reset)]
#[case::half(Manner::HalfAnAnswer, "http", Outcome::Closed)]
#[case::silence(Manner::Silence, "http", Outcome::Timeout)]
#[case::tcp_close(Manner::Close, "tcp", Outcome::Reset)]
#[case::tcp_reset(Manner::Reset, "tcp", Outcome::Reset)]
#[case::tcp_alert(Manner::TlsAlert, "tcp", Outcome::Reset)]
#[case::grpc_close(Manner::Close, "grpc", Outcome::Reset)]
#[case::grpc_alert(Manner::TlsAlert, "grpc", Outcome::Reset)]
#[case::tls_close(Manner::Close, "tls", Outcome::Reset)]
#[case::tls_alert(Manner::TlsAlert, "tls", Outcome::TlsAlert)]
fn how_a_peer_ends_it_is_told(#[case] manner: Manner, #[case] protocol: &str, #[case] outcome: Outcome) {
    let peer = rude(manner);
    let report = client(&["dial", protocol, &peer.to_string(), "--canary", "c4n4ry", "--timeout-ms", "600"]);
    assert_eq!(report.outcome, outcome, "{report:?}");
    assert!(!report.ok && report.error.is_some());
    assert_eq!(report.peer, Some(peer));
    assert!(report.local.is_some());
}

#[rstest]
#[case("tcp")]
#[case("http")]
#[case("udp")]
fn a_port_where_nobody_listens_refuses(#[case] protocol: &str) {
    let report = client(&["dial", protocol, &format!("127.0.0.1:{}", free_port())]);
    assert_eq!(report.outcome, Outcome::Refused, "{report:?}");
}

#[test]
fn a_name_that_cannot_exist_is_told() {
    // an empty label: no name server is asked
    let report = client(&["request", "http://a..b"]);
    assert_eq!(report.outcome, Outcome::NoSuchName, "{report:?}");
    assert!(report.local.is_none() && !report.ok);
}

#[rstest]
#[case("an IPv4-mapped IPv6 socket")]
#[case("TCP fast open")]
#[case("a bind to 127.0.0.2")]
fn a_socket_is_made_as_asked(#[case] technique: &str) {
    let server = serve("http", &[]);
    let report = client(&["dial", "http", &format!("127.0.0.1:{}", server.port), "--by", technique]);
    answered(&report);
    let expected = Ipv4Addr::new(127, 0, 0, if technique.contains("127.0.0.2") { 2 } else { 1 });
    assert_eq!(report.local.expect("a socket").ip(), expected);
}

#[test]
fn an_unknown_technique_is_refused_with_those_there_are() {
    let output =
        Command::new(PROGRAM).args(["dial", "tcp", "127.0.0.1:1", "--by", "magic"]).output().expect("the client runs");
    assert_eq!(output.status.code(), Some(2));
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(message.contains("multipath TCP"), "{message}");
}

#[test]
fn a_loop_reports_every_attempt_until_its_input_ends() {
    let server = serve("http", &[]);
    let mut looping = Command::new(PROGRAM)
        .args(["loop", &format!("http://127.0.0.1:{}", server.port), "--interval-ms", "5"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the client starts");
    let mut output = looping.stdout.take().expect("its output");
    let mut text = String::new();
    while text.lines().count() < 4 {
        let mut buffer = [0; 4096];
        let count = output.read(&mut buffer).expect("reports");
        text.push_str(std::str::from_utf8(&buffer[..count]).expect("UTF-8"));
    }
    drop(looping.stdin.take());
    output.read_to_string(&mut text).expect("the rest");
    assert!(looping.wait().expect("it ends").success());
    assert!(Report::parse_all(&text).count() >= 4 && Report::parse_all(&text).all(|report| report.ok));
}

/// A name server that knows one name, and gives it one IPv4 address.
fn name_server() -> SocketAddr {
    use hickory_proto::op::{Message, MessageType, ResponseCode};
    use hickory_proto::rr::{RData, Record, RecordType, rdata::A};
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let address = socket.local_addr().expect("its address");
    thread::spawn(move || {
        let mut buffer = [0; 1500];
        while let Ok((count, peer)) = socket.recv_from(&mut buffer) {
            let mut message = Message::from_vec(&buffer[..count]).expect("a query");
            let query = message.queries[0].clone();
            message.metadata.message_type = MessageType::Response;
            if query.name().to_ascii() != "known.test." {
                message.metadata.response_code = ResponseCode::NXDomain;
            } else if query.query_type() == RecordType::A {
                let record = Record::from_rdata(query.name().clone(), 5, RData::A(A::new(10, 1, 2, 3)));
                message.add_answer(record);
            }
            socket.send_to(&message.to_vec().expect("an answer"), peer).expect("sent");
        }
    });
    address
}

#[test]
fn a_look_up_tells_who_answered_what() {
    let server = name_server();
    let known = client(&["lookup", "known.test.", "--server", &server.to_string()]);
    assert_eq!(known.answers, Some(vec![[10, 1, 2, 3].into()]));
    assert_eq!((known.rcode.as_deref(), known.server), (Some("NOERROR"), Some(server)));
    assert!(known.ok && known.local.is_some());
    let unknown = client(&["lookup", "unknown.test.", "--server", &server.to_string()]);
    assert_eq!((unknown.rcode.as_deref(), unknown.outcome), (Some("NXDOMAIN"), Outcome::NoSuchName));
}

#[test]
fn exits_as_told() {
    let status = Command::new(PROGRAM).args(["exit", "7"]).status().expect("it runs");
    assert_eq!(status.code(), Some(7));
}

#[test]
fn a_load_keeps_its_connections() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let url = format!("http://{}/", listener.local_addr().expect("its address"));
    // answers each request on whatever connection it comes
    let (accepted, connections) = std::sync::mpsc::channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            accepted.send(()).expect("the test counts");
            thread::spawn(move || {
                let mut request = [0; 4096];
                while matches!(stream.read(&mut request), Ok(1..)) {
                    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").expect("an answer");
                }
            });
        }
    });
    let output = Command::new(PROGRAM)
        .args(["load", &url, "--connections", "2", "--for-ms", "100"])
        .stdin(Stdio::null())
        .output()
        .expect("the client runs");
    let load: Load = serde_json::from_slice(&output.stdout).expect("one line of JSON");
    assert!(load.took_us >= 100_000 && load.times_us.len() > 2, "{load:?}");
    assert_eq!(connections.try_iter().count(), 2, "for {} requests", load.times_us.len());
    assert!(output.status.success());
}

#[test]
fn a_load_on_nobody_says_whom() {
    let url = format!("http://127.0.0.1:{}/", free_port());
    let output = Command::new(PROGRAM).args(["load", &url]).stdin(Stdio::null()).output().expect("the client runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains(&url) && said.contains("refused"), "{said}");
}
