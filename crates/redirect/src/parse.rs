//! Entries of exclusion lists: ports, address blocks and user ids, strictly, with every mistake named.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;

/// A list entry that cannot be used: which one, what it was, and what is allowed instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Mistake {
    /// Position in the list, counted from 1; `None` when the list as a whole is wrong, or is not a list.
    pub entry: Option<usize>,
    /// The entry as it was written.
    pub value: String,
    /// What is wrong and what is allowed.
    pub reason: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { entry, value, reason } = self;
        match entry {
            Some(entry) => write!(f, "entry {entry} {value:?}: {reason}"),
            None => write!(f, "{value:?}: {reason}"),
        }
    }
}

const PORT: &str = "a port is a number from 1 to 65535";
const CIDR: &str = "a block is an address or an address and prefix length, as 10.0.0.0/8, 192.0.2.7 or fd00::/8";
const UID: &str = "a user id is a number from 0 to 4294967294";

/// Ports of a comma-separated list: trimmed, in order, duplicates merged.
///
/// # Errors
/// Every entry that is not a port, and a list with nothing in it.
pub fn ports(list: &str) -> Result<Vec<u16>, Vec<Mistake>> {
    split(list, "port, as 8080 or 8080,9090").and_then(|entries| each(entries, port))
}

/// Address blocks of a comma-separated list: trimmed, in order, host bits cleared, duplicates merged.
///
/// # Errors
/// Every entry that is not an address block, and a list with nothing in it.
pub fn cidrs(list: &str) -> Result<Vec<IpNet>, Vec<Mistake>> {
    split(list, "address block, as 10.0.0.0/8").and_then(|entries| each(entries, cidr))
}

/// User ids of a comma-separated list: trimmed, in order, duplicates merged.
///
/// # Errors
/// Every entry that is not a user id, and a list with nothing in it.
pub fn uids(list: &str) -> Result<Vec<u32>, Vec<Mistake>> {
    split(list, "user id, as 1000").and_then(|entries| each(entries, uid))
}

fn split<'a>(list: &'a str, example: &str) -> Result<impl Iterator<Item = &'a str>, Vec<Mistake>> {
    if list.trim().is_empty() {
        let reason = format!("the list is empty: name at least one {example}, or leave the setting out");
        return Err(vec![Mistake { entry: None, value: list.to_owned(), reason }]);
    }
    Ok(list.split(','))
}

/// Reads every entry; all mistakes are kept, a value that is there already is not repeated.
pub(crate) fn each<'a, T: PartialEq>(
    entries: impl IntoIterator<Item = &'a str>,
    read: impl Fn(&str) -> Result<T, String>,
) -> Result<Vec<T>, Vec<Mistake>> {
    let (mut values, mut mistakes) = (Vec::new(), Vec::new());
    for (index, entry) in entries.into_iter().enumerate() {
        match read(entry.trim()) {
            Ok(value) if values.contains(&value) => {}
            Ok(value) => values.push(value),
            Err(reason) => mistakes.push(Mistake { entry: Some(index + 1), value: entry.trim().to_owned(), reason }),
        }
    }
    if mistakes.is_empty() { Ok(values) } else { Err(mistakes) }
}

pub(crate) fn port(text: &str) -> Result<u16, String> {
    let number = number(text, PORT, "service names and the like are not looked up")?;
    u16::try_from(number).ok().filter(|port| *port != 0).ok_or_else(|| PORT.to_owned())
}

pub(crate) fn uid(text: &str) -> Result<u32, String> {
    let number = number(text, UID, "user names are not looked up")?;
    // -1 as an unsigned number means "no user" to the kernel, which would never match
    u32::try_from(number).ok().filter(|uid| *uid != u32::MAX).ok_or_else(|| UID.to_owned())
}

/// Decimal digits only: `+80`, `0x50` and `0600` mean different things to different programs.
fn number(text: &str, allowed: &str, names: &str) -> Result<u64, String> {
    let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    if text.is_empty() {
        return Err(format!("the entry is empty; {allowed}"));
    }
    if let Some((from, to)) = text.split_once(['-', ':'])
        && digits(from.trim())
        && digits(to.trim())
    {
        return Err(format!("ranges are not supported yet, list each value; {allowed}"));
    }
    if digits(text) {
        if text.len() > 1 && text.starts_with('0') {
            return Err(format!("leading zeros are ambiguous (octal to some programs); {allowed}"));
        }
        return text.parse().map_err(|_| allowed.to_owned());
    }
    if text.starts_with(|c: char| c.is_ascii_alphabetic()) {
        return Err(format!("{names}; {allowed}"));
    }
    Err(allowed.to_owned())
}

pub(crate) fn cidr(text: &str) -> Result<IpNet, String> {
    if text.is_empty() {
        return Err(format!("the entry is empty; {CIDR}"));
    }
    let (address, prefix) = match text.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix)),
        None => (text, None),
    };
    let Ok(address) = address.parse::<IpAddr>() else {
        let looks_like_a_name = !address.contains(':') && address.contains(|c: char| c.is_ascii_alphabetic());
        return Err(if looks_like_a_name { format!("host names are not looked up; {CIDR}") } else { CIDR.to_owned() });
    };
    if let IpAddr::V6(v6) = address
        && let Some(v4) = v6.to_ipv4_mapped()
    {
        return Err(format!("an IPv4 address in IPv6 form never matches a packet: write {v4}"));
    }
    let longest = if address.is_ipv4() { 32 } else { 128 };
    let length = match prefix {
        None => Some(longest),
        Some(text) if text.bytes().all(|b| b.is_ascii_digit()) => text.parse().ok().filter(|n| *n <= longest),
        Some(_) => None,
    };
    let length = length.ok_or_else(|| {
        let family = if address.is_ipv4() { "IPv4" } else { "IPv6" };
        format!("the prefix length of an {family} block is a number from 0 to {longest}")
    })?;
    let block = IpNet::new(address, length).map_err(|_| CIDR.to_owned())?;
    Ok(block.trunc())
}

/// An address that stands alone, not in a list.
pub(crate) fn address(text: &str) -> Result<IpAddr, String> {
    match text.trim().parse::<IpAddr>() {
        Ok(IpAddr::V6(v6)) => Ok(v6.to_ipv4_mapped().map_or(IpAddr::V6(v6), IpAddr::V4)),
        Ok(v4) => Ok(v4),
        Err(_) => Err(format!("an IP address is allowed, as 127.0.0.1 or {}", Ipv6Addr::LOCALHOST)),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("8080", &[8080])]
    #[case("1,65535", &[1, 65535])]
    #[case(" 80 , 81\t", &[80, 81])]
    #[case("81,80,81, 81", &[81, 80])]
    fn port_lists(#[case] list: &str, #[case] expected: &[u16]) {
        assert_eq!(ports(list).expect(list), expected);
    }

    #[rstest]
    #[case("0", "from 1 to 65535")]
    #[case("65536", "from 1 to 65535")]
    #[case("99999999999999999999", "from 1 to 65535")]
    #[case("-1", "from 1 to 65535")]
    #[case("+80", "from 1 to 65535")]
    #[case("0x50", "from 1 to 65535")]
    #[case("080", "leading zeros")]
    #[case("80.5", "from 1 to 65535")]
    #[case("8200-8300", "ranges are not supported yet")]
    #[case("8200:8300", "ranges are not supported yet")]
    #[case("http", "service names and the like are not looked up")]
    #[case("80 81", "from 1 to 65535")]
    #[case("٨٠", "from 1 to 65535")]
    fn port_mistakes(#[case] value: &str, #[case] reason: &str) {
        let mistakes = ports(value).expect_err(value);
        assert_eq!((mistakes.len(), mistakes[0].entry, mistakes[0].value.as_str()), (1, Some(1), value));
        assert!(mistakes[0].reason.contains(reason), "{}", mistakes[0]);
        assert!(mistakes[0].reason.contains("from 1 to 65535"), "says what is allowed: {}", mistakes[0]);
    }

    #[test]
    fn every_mistake_is_reported_with_its_place() {
        let mistakes = ports("80,,http, 81,70000").expect_err("three are wrong");
        let told: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
        assert_eq!(mistakes.iter().map(|m| m.entry).collect::<Vec<_>>(), [Some(2), Some(3), Some(5)]);
        assert_eq!(told[2], r#"entry 5 "70000": a port is a number from 1 to 65535"#);
        assert!(told[0].starts_with(r#"entry 2 "": the entry is empty"#), "{}", told[0]);
    }

    #[rstest]
    #[case("")]
    #[case("  ")]
    fn a_blank_list_is_one_mistake(#[case] list: &str) {
        for mistakes in [ports(list).err(), cidrs(list).err(), uids(list).err()] {
            let mistakes = mistakes.expect("refused");
            assert_eq!((mistakes.len(), mistakes[0].entry), (1, None));
            assert!(mistakes[0].to_string().contains("the list is empty"), "{}", mistakes[0]);
        }
    }

    #[rstest]
    #[case("10.0.0.0/8", &["10.0.0.0/8"])]
    #[case("3.3.3.3/24", &["3.3.3.0/24"])]
    #[case("3.3.3.3", &["3.3.3.3/32"])]
    #[case("0.0.0.0/0", &["0.0.0.0/0"])]
    #[case("fd00::1/64, ::1", &["fd00::/64", "::1/128"])]
    #[case("10.1.0.0/16,10.1.2.3/16", &["10.1.0.0/16"])]
    fn cidr_lists(#[case] list: &str, #[case] expected: &[&str]) {
        let blocks = cidrs(list).expect(list);
        assert_eq!(blocks.iter().map(ToString::to_string).collect::<Vec<_>>(), expected);
    }

    #[rstest]
    #[case("3.3.3", "as 10.0.0.0/8")]
    #[case("3.3.3.0/33", "from 0 to 32")]
    #[case("fd00::/129", "from 0 to 128")]
    #[case("10.0.0.0/", "from 0 to 32")]
    #[case("10.0.0.0/-1", "from 0 to 32")]
    #[case("10.0.0.0/+8", "from 0 to 32")]
    #[case("10.0.0.0/255.0.0.0", "from 0 to 32")]
    #[case("010.0.0.0/8", "as 10.0.0.0/8")]
    #[case("256.0.0.1", "as 10.0.0.0/8")]
    #[case("-10.0.0.1", "as 10.0.0.0/8")]
    #[case("example.com", "host names are not looked up")]
    #[case("localhost/8", "host names are not looked up")]
    #[case("fd00::g", "as 10.0.0.0/8")]
    #[case("::ffff:10.0.0.1", "write 10.0.0.1")]
    #[case("10.0.0.1-10.0.0.9", "as 10.0.0.0/8")]
    fn cidr_mistakes(#[case] value: &str, #[case] reason: &str) {
        let mistakes = cidrs(value).expect_err(value);
        assert_eq!(mistakes[0].value, value);
        assert!(mistakes[0].reason.contains(reason), "{}", mistakes[0]);
    }

    #[rstest]
    #[case("0", &[0])]
    #[case("4294967294", &[u32::MAX - 1])]
    #[case("1234, 1234,5678", &[1234, 5678])]
    fn uid_lists(#[case] list: &str, #[case] expected: &[u32]) {
        assert_eq!(uids(list).expect(list), expected);
    }

    #[rstest]
    #[case("4294967295")]
    #[case("4294967296")]
    #[case("-1")]
    #[case("1000-2000")]
    #[case("root")]
    #[case("1.5")]
    #[case("0100")]
    fn uid_mistakes(#[case] value: &str) {
        let mistakes = uids(value).expect_err(value);
        assert!(mistakes[0].reason.contains("from 0 to 4294967294"), "{}", mistakes[0]);
    }
}
