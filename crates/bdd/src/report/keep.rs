//! A failed lab that stays until a person has looked at it.

use tokio::io::{AsyncBufReadExt as _, BufReader};

use crate::bed::Bed;
use crate::suite::Suite;
use crate::world::World;

/// Says how to join the networks of the scenario's Pods, and waits for Enter or an interrupt; one lab after the other.
pub async fn keep(suite: &Suite, world: &World, bed: &dyn Bed) {
    let _turn = suite.looked_at.lock().await;
    say(&format!("\nkept: {}", world.name));
    if let Some((step, message)) = &world.failure {
        say(&format!("  {step}\n  {message}"));
    }
    for part in bed.parts() {
        for pod in part.pods().all() {
            let pod = part.pods().reference(&pod);
            say(&format!("  {}: {}", pod.host(), part.join_line(&pod)));
        }
    }
    say("  press Enter to go on");
    let mut line = String::new();
    let mut input = BufReader::new(tokio::io::stdin());
    tokio::select! {
        // a closed standard input is an answer too
        _ = input.read_line(&mut line) => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}

#[expect(clippy::print_stdout, reason = "a person is waiting for it")]
fn say(text: &str) {
    println!("{text}");
}
