//! The rules of what is said about HTTP requests.

use super::{HttpMatch, Mistakes, must};

/// Methods that may be named.
const METHODS: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "CONNECT", "OPTIONS", "TRACE"];

pub(super) fn check(matches: &HttpMatch, at: &str, mistakes: &mut Mistakes) {
    let HttpMatch { path_exact, path_prefix, path_regex, case_insensitive: _, methods, header, query_param } = matches;
    let paths = [("pathExact", path_exact), ("pathPrefix", path_prefix), ("pathRegex", path_regex)];
    must(paths.iter().filter(|(_, path)| path.is_some()).count() <= 1, mistakes, || {
        format!("{at}: at most one of pathExact, pathPrefix, pathRegex may be set")
    });
    for (form, path) in &paths[..2] {
        must(path.as_deref().is_none_or(|p| p.starts_with('/')), mistakes, || {
            format!("{at}.{form} is {:?}; it must begin with \"/\"", path.as_deref().unwrap_or_default())
        });
    }
    regex(path_regex.as_deref(), &format!("{at}.pathRegex"), mistakes);
    for (i, method) in methods.iter().enumerate() {
        must(METHODS.contains(&method.as_str()), mistakes, || {
            format!("{at}.methods[{i}] is {method:?}; it must be one of {}", METHODS.join(", "))
        });
        must(!methods[..i].contains(method), mistakes, || format!("{at}.methods[{i}]: {method:?} is listed twice"));
    }
    for (i, header) in header.iter().enumerate() {
        let at = format!("{at}.header[{i}]");
        let texts = [&header.exact, &header.prefix, &header.suffix, &header.contains];
        let set = texts.iter().filter(|text| text.is_some()).count();
        must(!header.name.is_empty(), mistakes, || format!("{at}.name is empty; name the header"));
        must(set + usize::from(header.regex.is_some()) + usize::from(header.present) == 1, mistakes, || {
            format!("{at}: exactly one of exact, prefix, suffix, contains, regex, present must be set")
        });
        must(!header.ignore_case || set == 1, mistakes, || {
            format!("{at}.ignoreCase needs one of exact, prefix, suffix, contains")
        });
        regex(header.regex.as_deref(), &format!("{at}.regex"), mistakes);
    }
    for (i, parameter) in query_param.iter().enumerate() {
        let at = format!("{at}.queryParam[{i}]");
        let set = [parameter.exact.is_some(), parameter.regex.is_some(), parameter.present];
        must(!parameter.name.is_empty(), mistakes, || format!("{at}.name is empty; name the parameter"));
        must(set.iter().filter(|set| **set).count() == 1, mistakes, || {
            format!("{at}: exactly one of exact, regex, present must be set")
        });
        regex(parameter.regex.as_deref(), &format!("{at}.regex"), mistakes);
    }
}

/// Envoy would refuse the whole configuration for one expression that it cannot read.
fn regex(pattern: Option<&str>, at: &str, mistakes: &mut Mistakes) {
    must(pattern.is_none_or(|p| regex::Regex::new(p).is_ok()), mistakes, || {
        format!("{at} is {:?}, which is not a regular expression", pattern.unwrap_or_default())
    });
}
