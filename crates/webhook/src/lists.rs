//! The exclusion lists of annotations, read by the same parsers that guard the rules themselves.

use crate::Mistake;
use crate::reader::Reader;
use redirect::{Safeguard, parse};
use std::fmt::Display;

/// Ports of an annotation, in order, without duplicates.
pub(crate) fn ports(reader: &mut Reader<'_>, key: &'static str) -> Vec<String> {
    list(reader, key, parse::ports)
}

/// Address blocks of an annotation, in order, without duplicates.
pub(crate) fn cidrs(reader: &mut Reader<'_>, key: &'static str) -> Vec<String> {
    list(reader, key, parse::cidrs)
}

/// User or group ids of an annotation, in order, without duplicates.
pub(crate) fn ids(reader: &mut Reader<'_>, key: &'static str) -> Vec<String> {
    list(reader, key, parse::ids)
}

/// Names of safeguards, in order, without duplicates; nothing where the annotation says `none`, `defaults` where it is absent.
pub(crate) fn safeguards(reader: &mut Reader<'_>, key: &'static str, defaults: &[Safeguard]) -> Vec<String> {
    match reader.text(key).map(str::trim) {
        None => defaults.iter().map(Safeguard::to_string).collect(),
        Some("none") => Vec::new(),
        Some(_) => list(reader, key, Safeguard::list),
    }
}

fn list<T: Display, M: Display>(
    reader: &mut Reader<'_>,
    key: &'static str,
    parse: impl Fn(&str) -> Result<Vec<T>, Vec<M>>,
) -> Vec<String> {
    let Some(text) = reader.text(key) else { return Vec::new() };
    match parse(text) {
        Ok(values) => values.iter().map(T::to_string).collect(),
        Err(wrong) => {
            reader
                .mistakes
                .extend(wrong.iter().map(|mistake| Mistake::Annotation { key, problem: mistake.to_string() }));
            Vec::new()
        }
    }
}
