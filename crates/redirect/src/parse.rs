//! Entries of lists: ports, address blocks, ids and safeguards, strictly, with every mistake named.
//!
//! There are two grammars. *Annotations* are checked at the door ([`ports`], [`cidrs`], [`ids`]), where a mistake still costs
//! nothing. What is *in a configuration already* was accepted by somebody, and means what iptables takes it for: ranges may be
//! written with either sign.

use std::collections::HashSet;
use std::fmt;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;

use crate::range::{IdRange, PortRange, Range};

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
        let value = Shown(value);
        match entry {
            Some(entry) => write!(f, "entry {entry} {value}: {reason}"),
            None => write!(f, "{value}: {reason}"),
        }
    }
}

/// A value in quotes, of which no more is shown than helps to find it.
struct Shown<'a>(&'a str);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const LONGEST: usize = 80;
        match self.0.char_indices().nth(LONGEST) {
            Some((end, _)) => write!(f, "{:?}… ({} bytes)", &self.0[..end], self.0.len()),
            None => write!(f, "{:?}", self.0),
        }
    }
}

const PORT: &str = "a port is a number from 1 to 65535";
const CIDR: &str = "a block is an address or an address and prefix length, as 10.0.0.0/8, 192.0.2.7 or fd00::/8";
const ID: &str = "an id is a number from 0 to 4294967294";

/// Ports of an annotation's comma-separated list: trimmed, in order, duplicates merged. A range is written as iptables has it,
/// `8000:8010`.
///
/// # Errors
/// Every entry that is not a port, and a list with nothing in it.
pub fn ports(list: &str) -> Result<Vec<PortRange>, Vec<Mistake>> {
    split(list, "port, as 8080 or 8080,9090").and_then(|entries| each(entries, |text| ports_of(text, &[':'])))
}

/// Address blocks of a comma-separated list: trimmed, in order, host bits cleared, duplicates merged.
///
/// # Errors
/// Every entry that is not an address block, and a list with nothing in it.
pub fn cidrs(list: &str) -> Result<Vec<IpNet>, Vec<Mistake>> {
    split(list, "address block, as 10.0.0.0/8").and_then(|entries| each(entries, cidr))
}

/// User or group ids of an annotation's comma-separated list: trimmed, in order, duplicates merged. Ranges are refused there:
/// `1000-2000` would exclude far more than a reader expects.
///
/// # Errors
/// Every entry that is not an id, and a list with nothing in it.
pub fn ids(list: &str) -> Result<Vec<IdRange>, Vec<Mistake>> {
    split(list, "id, as 1000").and_then(|entries| each(entries, |text| ids_of(text, &[])))
}

pub(crate) fn split<'a>(list: &'a str, example: &str) -> Result<impl Iterator<Item = &'a str>, Vec<Mistake>> {
    if list.trim().is_empty() {
        let reason = format!("the list is empty: name at least one {example}, or leave the setting out");
        return Err(vec![Mistake { entry: None, value: list.to_owned(), reason }]);
    }
    Ok(list.split(','))
}

/// Reads every entry; all mistakes are kept, a value that is there already is not repeated.
pub(crate) fn each<'a, T: Copy + Eq + Hash>(
    entries: impl IntoIterator<Item = &'a str>,
    read: impl Fn(&str) -> Result<T, String>,
) -> Result<Vec<T>, Vec<Mistake>> {
    let (mut values, mut mistakes, mut seen) = (Vec::new(), Vec::new(), HashSet::new());
    for (index, entry) in entries.into_iter().enumerate() {
        match read(entry.trim()) {
            Ok(value) if !seen.insert(value) => {}
            Ok(value) => values.push(value),
            Err(reason) => mistakes.push(Mistake { entry: Some(index + 1), value: entry.trim().to_owned(), reason }),
        }
    }
    if mistakes.is_empty() { Ok(values) } else { Err(mistakes) }
}

/// A port or a range of them, whose ends one of the separators is between.
pub(crate) fn ports_of(text: &str, separators: &[char]) -> Result<PortRange, String> {
    range(text, separators, &Numbers { allowed: PORT, names: "service names and the like are not looked up", least: 1 })
}

/// An id or a range of them, whose ends one of the separators is between.
pub(crate) fn ids_of(text: &str, separators: &[char]) -> Result<IdRange, String> {
    range(text, separators, &Numbers { allowed: ID, names: "names of users and groups are not looked up", least: 0 })
}

/// A single id.
pub(crate) fn id(text: &str) -> Result<u32, String> {
    ids_of(text, &[]).map(|range| range.first())
}

/// What is said of numbers that are wrong.
struct Numbers {
    allowed: &'static str,
    names: &'static str,
    least: u64,
}

fn range<T>(text: &str, separators: &[char], numbers: &Numbers) -> Result<Range<T>, String>
where
    T: Copy + Ord + TryFrom<u64> + TryInto<u32>,
{
    let allowed = numbers.allowed;
    let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    match text.split_once(['-', ':']) {
        Some((from, to)) if digits(from.trim()) && digits(to.trim()) => {
            let used = text[from.len()..].chars().next().unwrap_or_default();
            if !separators.contains(&used) {
                return Err(match separators.first() {
                    Some(right) => format!("a range is written {}{right}{}; {allowed}", from.trim(), to.trim()),
                    None => format!("ranges are not allowed here, list each value; {allowed}"),
                });
            }
            let (first, last) = (number(from.trim(), numbers)?, number(to.trim(), numbers)?);
            Range::new(first, last).ok_or_else(|| format!("the first is above the last; {allowed}"))
        }
        _ => number(text, numbers).map(|number: T| Range::from(number)),
    }
}

/// Decimal digits only: `+80`, `0x50` and `0600` mean different things to different programs.
fn number<T: Copy + TryFrom<u64> + TryInto<u32>>(text: &str, numbers: &Numbers) -> Result<T, String> {
    let Numbers { allowed, names, least } = *numbers;
    if text.is_empty() {
        return Err(format!("the entry is empty; {allowed}"));
    }
    if !text.bytes().all(|b| b.is_ascii_digit()) {
        let named = text.starts_with(|c: char| c.is_ascii_alphabetic());
        return Err(if named { format!("{names}; {allowed}") } else { allowed.to_owned() });
    }
    if text.len() > 1 && text.starts_with('0') {
        return Err(format!("leading zeros are ambiguous (octal to some programs); {allowed}"));
    }
    let number = text.parse().ok().filter(|number| *number >= least).and_then(|number| T::try_from(number).ok());
    // -1 as an unsigned number means "nobody" to the kernel, which would never match
    number.filter(|number| (*number).try_into().is_ok_and(|id: u32| id != u32::MAX)).ok_or_else(|| allowed.to_owned())
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
        let expected: Vec<PortRange> = expected.iter().copied().map(PortRange::from).collect();
        assert_eq!(ports(list).expect(list), expected);
    }

    #[rstest]
    #[case(ports("8000:8010, 8000 : 8010,8005").expect("ports").iter().map(ToString::to_string).collect(), &["8000:8010", "8005"])]
    #[case(vec![ports_of("8000-8010", &[':', '-']).expect("ports").to_string()], &["8000:8010"])]
    #[case(vec![ids_of("1000-2000", &['-']).expect("ids").to_string()], &["1000-2000"])]
    #[case(vec![ids_of("7-7", &['-']).expect("ids").to_string()], &["7"])]
    fn ranges(#[case] found: Vec<String>, #[case] expected: &[&str]) {
        assert_eq!(found, expected);
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
    #[case("8200-8300", "a range is written 8200:8300")]
    #[case("8300:8200", "the first is above the last")]
    #[case("0:80", "from 1 to 65535")]
    #[case("80:", "from 1 to 65535")]
    #[case("80:90:100", "from 1 to 65535")]
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
    fn a_long_value_is_not_repeated_in_full() {
        let told = ports(&"x".repeat(1 << 20)).expect_err("no port")[0].to_string();
        assert!(told.len() < 300 && told.contains("(1048576 bytes)"), "{} bytes", told.len());
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
        for mistakes in [ports(list).err(), cidrs(list).err(), ids(list).err()] {
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
    fn id_lists(#[case] list: &str, #[case] expected: &[u32]) {
        let expected: Vec<IdRange> = expected.iter().copied().map(IdRange::from).collect();
        assert_eq!(ids(list).expect(list), expected);
    }

    #[rstest]
    #[case("4294967295")]
    #[case("4294967296")]
    #[case("-1")]
    #[case("1000-2000")]
    #[case("root")]
    #[case("1.5")]
    #[case("0100")]
    fn id_mistakes(#[case] value: &str) {
        let mistakes = ids(value).expect_err(value);
        assert!(mistakes[0].reason.contains("from 0 to 4294967294"), "{}", mistakes[0]);
    }
}
