//! Namespaces in a real kernel: identity, entering, sockets that outlive the visit, and binding to a path.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

use netns::{Error, NetNs};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

/// Only a failing test waits for it.
const DEADLINE: Duration = Duration::from_secs(5);

fn interfaces() -> Vec<String> {
    let table = std::fs::read_to_string("/proc/thread-self/net/dev").expect("proc is mounted");
    table.lines().skip(2).filter_map(|line| Some(line.split_once(':')?.0.trim().to_owned())).collect()
}

/// A namespace whose loopback is up.
fn with_loopback() -> NetNs {
    let namespace = NetNs::create().expect("create");
    let up = namespace.run(|| Command::new("ip").args(["link", "set", "lo", "up"]).status());
    assert!(up.expect("enter").expect("start ip").success());
    namespace
}

fn local(port: u16) -> SocketAddr {
    SocketAddr::new("127.0.0.1".parse().expect("literal"), port)
}

#[test]
fn a_namespace_is_itself_by_whatever_path() {
    let (one, other) = (NetNs::create().expect("create"), NetNs::create().expect("create"));
    assert_ne!(one, other);
    assert_ne!(one, NetNs::current().expect("current"));
    assert_eq!(one, one.clone());
    assert_eq!(one, NetNs::open(one.proc_path()).expect("open"));
    assert_eq!(one, one.run(NetNs::current).expect("enter").expect("current"));
    assert_eq!(NetNs::of_process(std::process::id()).expect("ours"), NetNs::current().expect("current"));
    assert_eq!(one.to_string(), format!("network namespace net:[{}]", one.inode()));
}

#[test]
fn work_runs_inside_and_the_caller_stays_outside() {
    let home = NetNs::current().expect("current");
    let namespace = NetNs::create().expect("create");
    assert_eq!(namespace.run(interfaces).expect("enter"), ["lo"]);
    let child = namespace.run(|| Command::new("readlink").arg("/proc/self/ns/net").output());
    let child = child.expect("enter").expect("start readlink").stdout;
    assert_eq!(String::from_utf8_lossy(&child).trim(), format!("net:[{}]", namespace.inode()));
    assert_eq!(NetNs::current().expect("current"), home);
}

#[test]
fn a_panic_inside_is_an_error_outside() {
    let home = NetNs::current().expect("current");
    let namespace = NetNs::create().expect("create");
    let error = namespace.run(|| panic!("on purpose")).expect_err("the work panicked");
    assert!(matches!(&error, Error::Thread(which, _) if *which == namespace), "{error:?}");
    assert_eq!(NetNs::current().expect("current"), home);
    assert_eq!(namespace.run(interfaces).expect("still usable"), ["lo"]);
}

#[test]
fn sockets_made_inside_work_outside() {
    let namespace = with_loopback();
    let listener = namespace.tcp_listen(local(7000)).expect("listen");
    // no one listens there in our own namespace, nor in a third one
    let elsewhere = with_loopback().run(|| TcpStream::connect_timeout(&local(7000), DEADLINE));
    assert_eq!(elsewhere.expect("enter").expect_err("refused").kind(), ErrorKind::ConnectionRefused);

    let mut client = namespace.tcp_connect(local(7000)).expect("begun");
    listener.set_nonblocking(false).expect("blocking");
    let (mut server, _) = listener.accept().expect("accept");
    client.set_nonblocking(false).expect("blocking");
    client.set_read_timeout(Some(DEADLINE)).expect("a deadline");
    server.write_all(b"hello").expect("write");
    drop(server);
    let mut text = String::new();
    client.read_to_string(&mut text).expect("read");
    assert_eq!(text, "hello");
}

#[test]
fn datagrams_made_inside_work_outside() {
    let namespace = with_loopback();
    let server = namespace.udp_bind(local(7001)).expect("bind");
    server.set_nonblocking(false).expect("blocking");
    server.set_read_timeout(Some(DEADLINE)).expect("a deadline");
    let client = namespace.udp_bind(local(0)).expect("bind");
    client.send_to(b"hello", local(7001)).expect("send");
    let mut buffer = [0; 16];
    let (length, from) = server.recv_from(&mut buffer).expect("receive");
    assert_eq!((&buffer[..length], from), (&b"hello"[..], client.local_addr().expect("bound")));
}

#[test]
fn a_bound_namespace_outlives_its_value() {
    // this thread gets mounts of its own, so that the machine's are not touched
    unshare(CloneFlags::CLONE_NEWNS).expect("a mount namespace");
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).expect("private");
    let directory = std::env::temp_dir().join(format!("netns-test-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("a directory");
    let path = directory.join("pod");
    let namespace = NetNs::create().expect("create");
    let inode = namespace.inode();
    namespace.bind(&path).expect("bind");
    drop(namespace);
    let reopened = NetNs::open(&path).expect("still there");
    assert_eq!(reopened.inode(), inode);
    assert_eq!(reopened.run(interfaces).expect("enter"), ["lo"]);
    NetNs::unbind(&path).expect("unbind");
    assert!(!path.exists());
    assert!(matches!(NetNs::unbind(&path), Err(Error::Bind { .. })), "nothing is bound there any more");
    std::fs::remove_dir(&directory).expect("empty");
}

#[test]
fn what_is_not_a_namespace_is_refused() {
    assert!(matches!(NetNs::open("/nonexistent"), Err(Error::Open { .. })));
    let file = NetNs::open("/proc/self/status").expect("a readable file");
    assert!(matches!(file.run(|| ()), Err(Error::Enter { .. })), "but it cannot be entered");
}
