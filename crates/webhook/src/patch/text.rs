//! Texts as JSON, for texts that are JSON: every few bytes there is a quotation mark to be escaped, which [`serde_json`] handles
//! one by one, with a call for each piece between them.

/// So much is escaped at a time.
const PIECE: usize = 64;

/// A byte that is no control character, as JSON has it: one byte or two.
#[derive(Clone, Copy)]
struct Escaped {
    bytes: [u8; 2],
    length: u8,
}

const ESCAPED: [Escaped; 256] = {
    let mut all = [Escaped { bytes: [0; 2], length: 1 }; 256];
    let mut byte = 0;
    while byte < 256 {
        all[byte].bytes[0] = byte as u8;
        byte += 1;
    }
    all[b'"' as usize] = Escaped { bytes: *b"\\\"", length: 2 };
    all[b'\\' as usize] = Escaped { bytes: *b"\\\\", length: 2 };
    all
};

/// Appends a text in quotation marks.
pub(super) fn write(out: &mut Vec<u8>, text: &str) {
    out.reserve(text.len() + text.len() / 4 + 2);
    out.push(b'"');
    for piece in text.as_bytes().chunks(PIECE) {
        if piece.iter().any(|byte| *byte < b' ') {
            seldom(out, piece);
            continue;
        }
        // branches would be guessed wrong too often: two bytes are written, and the next ones move over a second that is not wanted
        let mut escaped = [0; 2 * PIECE + 2];
        let mut length = 0;
        for &byte in piece {
            let Escaped { bytes, length: more } = ESCAPED[usize::from(byte)];
            let at = length % (2 * PIECE);
            escaped[at..at + 2].copy_from_slice(&bytes);
            length += usize::from(more);
        }
        out.extend_from_slice(&escaped[..length]);
    }
    out.push(b'"');
}

/// A piece with control characters in it.
#[cold]
fn seldom(out: &mut Vec<u8>, piece: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for &byte in piece {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            ..b' ' => {
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
            }
            other => out.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;

    fn read_back(text: &str) -> String {
        let mut out = Vec::new();
        write(&mut out, text);
        serde_json::from_slice(&out).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&out)))
    }

    #[rstest]
    #[case::empty("")]
    #[case::json(r#"{"a":"b\"c","d":"\u0001"}"#)]
    #[case::control("a\u{1}\u{1f}\u{7f}\n\t\r\u{8}\u{c}")]
    #[case::not_ascii("é\u{2028}😀")]
    #[case::only_marks(&"\"\\".repeat(PIECE))]
    #[case::longer_than_a_piece(&"é".repeat(PIECE))]
    fn it_is_read_back(#[case] text: &str) {
        assert_eq!(read_back(text), text);
    }

    proptest! {
        #[test]
        fn any_text_is_read_back(text in any::<String>()) {
            prop_assert_eq!(read_back(&text), text);
        }
    }
}
