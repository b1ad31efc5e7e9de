//! SIGTERM to each command: it ends, all but a server at once, with a status and not by the signal's default action, which a container's
//! first process does not have.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rstest::rstest;

/// Longer than starting a program takes on a laden machine.
const DEADLINE: Duration = Duration::from_secs(10);
/// Shorter than any of the time-outs that the commands are given.
const AT_ONCE: Duration = Duration::from_secs(5);

fn start(arguments: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_workload"))
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program starts")
}

/// Sends SIGTERM; the exit status, and what was said.
fn terminate(mut child: Child) -> (Option<i32>, String) {
    let told = Instant::now();
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM).expect("it runs");
    let status = child.wait().expect("it ends");
    assert!(told.elapsed() < AT_ONCE, "{:?}", told.elapsed());
    let mut said = String::new();
    child.stdout.take().expect("piped").read_to_string(&mut said).expect("text");
    (status.code(), said)
}

/// Whether the process handles SIGTERM.
fn listens(child: &Child) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).expect("it runs");
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).expect("a set of signals");
    let caught = u64::from_str_radix(caught.trim(), 16).expect("hexadecimal");
    caught & (1 << (Signal::SIGTERM as u64 - 1)) != 0
}

#[rstest]
#[case::serve(&["serve", "--name", "n", "--bind", "loopback"])]
#[case::sleep(&["sleep"])]
fn what_has_no_end_of_its_own_succeeds(#[case] arguments: &[&str]) {
    let child = start(arguments);
    let deadline = Instant::now() + DEADLINE;
    while !listens(&child) {
        assert!(Instant::now() < deadline, "it does not listen for SIGTERM");
        std::thread::yield_now();
    }
    assert_eq!(terminate(child), (Some(0), String::new()));
}

#[test]
fn a_server_that_is_asked_to_end_still_answers() {
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|free| free.local_addr()).expect("a port").port();
    let mut child = start(&["serve", "--name", "n", "--bind", "loopback", "--tcp", &port.to_string()]);
    let deadline = Instant::now() + DEADLINE;
    while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
        assert!(Instant::now() < deadline, "nobody listens");
        std::thread::yield_now();
    }
    let pid = Pid::from_raw(child.id().cast_signed());
    kill(pid, Signal::SIGTERM).expect("it runs");
    let mut client = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("it still listens");
    client.write_all(b"hello\n").expect("sent");
    assert!(client.read(&mut [0; 64]).expect("an answer") > 0);
    // who is asked twice does not linger
    kill(pid, Signal::SIGTERM).expect("it runs");
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
}

/// The server never answers, and every attempt may take a minute.
#[rstest]
#[case::request(&["request", "http://TARGET", "--timeout-ms", "60000"], 143)]
#[case::dial(&["dial", "tcp", "TARGET", "--timeout-ms", "60000"], 143)]
#[case::send(&["send", "tcp", "TARGET", "1 byte every 500 ms for 60 s"], 143)]
#[case::tls(&["tls", "TARGET", "--timeout-ms", "60000"], 143)]
#[case::a_loop_none_of_whose_attempts_failed(&["loop", "http://TARGET", "--timeout-ms", "60000"], 0)]
fn an_attempt_under_way_is_cut_off_and_not_reported(#[case] arguments: &[&str], #[case] status: i32) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let target = listener.local_addr().expect("its address").to_string();
    let arguments: Vec<_> = arguments.iter().map(|word| word.replace("TARGET", &target)).collect();
    let child = start(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    let _connection = listener.accept().expect("an attempt");
    assert_eq!(terminate(child), (Some(status), String::new()));
}

#[test]
fn a_look_up_is_cut_off() {
    let server = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let address = server.local_addr().expect("its address").to_string();
    let child = start(&["lookup", "some.test.", "--server", &address, "--timeout-ms", "60000"]);
    server.recv_from(&mut [0; 1500]).expect("a query");
    assert_eq!(terminate(child), (Some(143), String::new()));
}
