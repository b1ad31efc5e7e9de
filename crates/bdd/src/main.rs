//! `pellucid-e2e`: enters a sandbox, runs features, reports.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use bdd::cli::{Options, default_jobs};
use bdd::report::{self, Progress};
use bdd::run::{self, Parsed, Selection};
use bdd::selftest::{Caught, Saboteur};
use bdd::suite::{Settings, Suite};
use clap::Parser as _;
use sim::sandbox::Inside;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let options = Options::parse();
    // before any thread: the sandbox starts this program again inside
    let inside = match sim::sandbox::enter() {
        Ok(inside) => inside,
        Err(error) => return could_not_run(&error.into()),
    };
    match started(options, inside) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => could_not_run(&error),
    }
}

fn could_not_run(error: &anyhow::Error) -> ExitCode {
    report::could_not_run(error);
    ExitCode::from(sim::sandbox::COULD_NOT_RUN)
}

fn started(options: Options, inside: Inside) -> Result<bool> {
    let Inside { work, outer, .. } = inside;
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "warn".into()))
        .with_writer(std::io::stderr)
        .init();
    // an error only says that there is one already
    let _ = rustls::crypto::ring::default_provider().install_default();
    let beside = std::env::current_exe().ok().and_then(|p| p.parent().map(PathBuf::from));
    let settings = Settings {
        out: std::path::absolute(&options.out).context("find the output directory")?,
        bin_dir: options.bin_dir.clone().or(beside).context("find the workspace's programs: say --bin-dir")?,
        envoy: run::envoy(options.envoy.as_deref())?,
        keep: options.keep,
        outer_pid: outer,
        saboteur: options.saboteur,
    };
    run::require(&settings)?;
    let selection = Selection { tags: options.tags.clone(), name: options.name.clone() };
    let features = run::parse(&options.features)?.select(&selection);
    if features.count() == 0 {
        bail!("find a scenario: none has these tags and this name");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("start a runtime")?;
    let jobs = options.jobs.unwrap_or_else(default_jobs).max(1);
    let passed = runtime.block_on(async {
        if options.self_test {
            self_test(&settings, &work, &features, jobs).await
        } else {
            let suite = one(settings, work, features, jobs).await?;
            Ok(suite.finished().iter().all(|f| f.failure.is_none()))
        }
    });
    runtime.shutdown_background();
    passed
}

async fn one(settings: Settings, work: PathBuf, features: Parsed, jobs: usize) -> Result<Arc<Suite>> {
    let suite = Suite::new(settings, work);
    let progress = Progress::start(&suite, features.count());
    let reports = run::run(&suite, features, jobs).await;
    progress.end().await;
    report::summary(&suite, &reports?);
    Ok(suite)
}

/// One run per saboteur, of the scenarios that are about it.
async fn self_test(settings: &Settings, work: &std::path::Path, features: &Parsed, jobs: usize) -> Result<bool> {
    let mut caught = Vec::new();
    for saboteur in Saboteur::ALL {
        if settings.saboteur.is_some_and(|only| only != saboteur) {
            continue;
        }
        let expression = saboteur.expression();
        let tags = expression.parse().with_context(|| format!("read {expression:?}"))?;
        let about = features.clone().select(&Selection { tags: Some(tags), name: None });
        let own = Settings {
            out: settings.out.join("self-test").join(saboteur.name()),
            saboteur: Some(saboteur),
            ..settings.clone()
        };
        let suite = one(own, work.join(saboteur.name()), about, jobs).await?;
        caught.push(Caught::by(saboteur, &suite.finished()));
    }
    report::saboteurs(&caught);
    Ok(caught.iter().all(Caught::is_caught))
}
