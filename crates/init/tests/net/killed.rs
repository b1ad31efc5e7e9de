//! A process that is killed at any moment of its work leaves the rules of before, or those of after.

use std::io::Read as _;
use std::process::{Command, Stdio};

use measure::stepping::{SHELL, kill_at};
use redirect::kernel::{Line, apply_with, demanded, remove};
use redirect::{Backend, Config, Policy};
use rstest::rstest;

use crate::pod::*;

/// Runs `redirect-traffic`, counted from its first instruction, up to a stop at the entry to or the exit from a system call, and
/// kills it there; says whether it came that far. Returns when nothing that it started runs any more.
fn killed_at(pod: &Pod, stop: usize, arguments: &[String]) -> bool {
    let start = || {
        Command::new("sh")
            .args(SHELL)
            .arg(env!("CARGO_BIN_EXE_redirect-traffic"))
            .args(arguments)
            .env_clear()
            .env("PATH", PATH)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
    };
    let mut child = pod.namespace.run(start).expect("enter").expect("start sh");
    let is_killed = kill_at(&mut child, stop).expect("traced");
    let mut rest = Vec::new();
    child.stdout.take().expect("a pipe").read_to_end(&mut rest).expect("until the last has ended");
    is_killed
}

fn of(place: &Line, lines: &[Line]) -> Vec<Line> {
    lines.iter().filter(|line| line.place == place.place).cloned().collect()
}

/// iptables changes one family at a time, nf_tables both.
#[rstest]
#[case(Backend::Nftables)]
#[case(Backend::IptablesNft)]
#[case(Backend::IptablesLegacy)]
fn killed_at_any_moment(#[case] backend: Backend, #[values(false, true)] is_redirected: bool) {
    let pod = Pod::new();
    let old = Policy::from_config(&config(), true).expect("valid");
    let new = Config { exclude_uids: vec!["7".into()], proxy_inbound_port: 21000, ..config() };
    let arguments = ["apply".to_owned(), "-dual-stack".into(), format!("-rule-backend={backend}")];
    let arguments = [&arguments[..], &[format!("-redirect-traffic-config={}", new.to_json())]].concat();
    let new = demanded(backend, &Policy::from_config(&new, true).expect("valid"));
    let before = if is_redirected { demanded(backend, &old) } else { Vec::new() };
    let prepare = || if is_redirected { apply_with(backend, &old).map(drop) } else { remove().map(drop) };
    let (mut stop, mut olds, mut news) = (1, 0, 0);
    loop {
        pod.namespace.run(prepare).expect("enter").expect("prepared");
        assert_eq!(pod.rules(), before);
        let is_killed = killed_at(&pod, stop, &arguments);
        let held = pod.rules();
        for place in [&before, &new].into_iter().flatten() {
            let (held, before, new) = (of(place, &held), of(place, &before), of(place, &new));
            assert!(held == before || held == new, "killed at stop {stop}: {held:#?}");
        }
        if held == new {
            news += 1
        } else {
            olds += 1
        }
        if !is_killed {
            assert_eq!(held, new, "it was left alone");
            break;
        }
        // the exit from a call and the entry to the next are the same to the rules
        stop += 2;
    }
    assert!(olds > 10 && news > 1, "{olds} times before, {news} times after, of {stop}");
}
