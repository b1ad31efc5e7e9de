//! The exclusion lists of annotations, read by the same parsers that guard the rules themselves.

use crate::Mistake;
use crate::reader::Reader;
use redirect::parse;
use std::fmt::Display;

/// Ports of an annotation, in order, without duplicates.
pub(crate) fn ports(reader: &mut Reader<'_>, key: &'static str) -> Vec<String> {
    list(reader, key, parse::ports)
}

/// Address blocks of an annotation, in order, without duplicates.
pub(crate) fn cidrs(reader: &mut Reader<'_>, key: &'static str) -> Vec<String> {
    list(reader, key, parse::cidrs)
}

/// User ids of an annotation, in order, without duplicates.
pub(crate) fn uids(reader: &mut Reader<'_>, key: &'static str) -> Vec<String> {
    list(reader, key, parse::uids)
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
