//! The folder a scenario leaves behind.

use std::path::{Path, PathBuf};

/// A directory for evidence. Writing is best effort: a full disk must not turn a verdict around, so failures are logged.
#[derive(Debug, Clone, Default)]
pub struct Folder(PathBuf);

impl Folder {
    /// The folder at this path, which is made when something is first written.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self(path)
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Removes what an earlier run left in it.
    pub fn clear(&self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(path = %self.0.display(), %error, "removing earlier evidence");
        }
    }

    /// Writes a file; a name with slashes makes directories.
    pub fn write(&self, name: &str, text: &str) {
        let path = self.0.join(name);
        let written = path.parent().map_or(Ok(()), std::fs::create_dir_all).and_then(|()| std::fs::write(&path, text));
        if let Err(error) = written {
            tracing::warn!(path = %path.display(), %error, "writing evidence");
        }
    }
}

/// A text as a file name: words joined by dashes, cut to 80 bytes.
#[must_use]
pub fn slug(text: &str) -> String {
    let mut slug = String::new();
    for c in text.chars() {
        if c.is_ascii_alphanumeric() {
            slug.push(c.to_ascii_lowercase());
        } else if !slug.is_empty() && !slug.ends_with('-') {
            slug.push('-');
        }
    }
    slug.truncate(80);
    let slug = slug.trim_end_matches('-');
    if slug.is_empty() { "unnamed".to_owned() } else { slug.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::slug;

    #[test]
    fn slugs_are_words_and_dashes() {
        assert_eq!(slug("The Helm value, \"true\" (row 2)"), "the-helm-value-true-row-2");
        assert_eq!(slug("¿…?"), "unnamed");
    }
}
