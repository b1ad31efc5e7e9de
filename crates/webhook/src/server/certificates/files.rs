//! A certificate in files, as a mounted Secret has them, read again when they change.

use super::{CertificateError, Certificates};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often the files are looked at. The kubelet takes a minute to write them, so that nothing is gained by more.
const PERIOD: Duration = Duration::from_secs(1);

/// `tls.crt` and `tls.key` of a directory.
pub struct Files {
    directory: PathBuf,
    certificates: Certificates,
    last: (Vec<u8>, Vec<u8>),
}

impl Files {
    /// Serves with the files as they are.
    ///
    /// # Errors
    /// A file is missing or of no use.
    pub fn load(directory: &Path, certificates: Certificates) -> Result<Self, CertificateError> {
        let last = read(directory)?;
        certificates.install(&last.0, &last.1, &directory.display().to_string())?;
        Ok(Self { directory: directory.to_owned(), certificates, last })
    }

    /// Serves with what the files become, for as long as the program lives.
    pub async fn follow(mut self) {
        let mut ticks = tokio::time::interval(PERIOD);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.look();
        }
    }

    /// A pair that cannot be used is reported once, and the one before is kept: the kubelet may be between two files.
    fn look(&mut self) {
        let place = self.directory.display().to_string();
        let changed = match read(&self.directory) {
            Ok(files) if files == self.last => return,
            Ok(files) => {
                let installed = self.certificates.install(&files.0, &files.1, &place);
                self.last = files;
                installed
            }
            // as good as unchanged, until they are there again
            Err(_) if self.last == (Vec::new(), Vec::new()) => return,
            Err(error) => {
                self.last = (Vec::new(), Vec::new());
                Err(error)
            }
        };
        if let Err(error) = changed {
            self.certificates.failed();
            tracing::error!(%error, "the certificate changed and is of no use; the one before is still served with");
        }
    }
}

fn read(directory: &Path) -> Result<(Vec<u8>, Vec<u8>), CertificateError> {
    let file = |name: &str, what| {
        let path = directory.join(name);
        std::fs::read(&path).map_err(|error| CertificateError::Pem {
            what,
            place: path.display().to_string(),
            problem: format!("{error}; check that a Secret of type kubernetes.io/tls is mounted there"),
        })
    };
    Ok((file("tls.crt", "the certificate")?, file("tls.key", "the private key")?))
}
