//! The grammar of an image reference's parts, one predicate each.
//!
//! <https://github.com/distribution/reference/blob/v0.6.0/regexp.go>

/// Whether all characters are lower-case hexadecimal digits.
pub(super) fn is_lower_hex(text: &str) -> bool {
    text.bytes()
        .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// `host [":" digits]`, the host being dotted components or an address in brackets.
pub(super) fn is_domain(text: &str) -> bool {
    let (host, port) = super::split_port(text);
    if port.is_some_and(|port| port.is_empty() || !port.bytes().all(|byte| byte.is_ascii_digit())) {
        return false;
    }
    if let Some(address) = host.strip_prefix('[') {
        return address.strip_suffix(']').is_some_and(is_ipv6);
    }
    host.split('.').all(is_domain_component)
}

fn is_ipv6(address: &str) -> bool {
    !address.is_empty()
        && address
            .bytes()
            .all(|byte| byte.is_ascii_hexdigit() || byte == b':')
}

fn is_domain_component(component: &str) -> bool {
    let bytes = component.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else {
        return false;
    };
    first.is_ascii_alphanumeric()
        && last.is_ascii_alphanumeric()
        && bytes
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-')
}

/// Components joined by `/`: runs of lower-case letters and digits, with one `.`, one or two `_`, or any number of `-` between.
pub(super) fn is_path(text: &str) -> bool {
    let bytes = text.as_bytes();
    let mut separators = 0;
    let mut previous = b'/';
    for &byte in bytes {
        match byte {
            b'a'..=b'z' | b'0'..=b'9' => separators = 0,
            b'.' | b'_' | b'-' | b'/' => {
                let joins = match separators {
                    0 => previous != b'/',
                    1 => byte == previous && matches!(byte, b'_' | b'-'),
                    _ => byte == previous && byte == b'-',
                };
                if !joins {
                    return false;
                }
                separators += 1;
            }
            _ => return false,
        }
        previous = byte;
    }
    separators == 0 && !bytes.is_empty()
}

/// A word character, then up to 127 word characters, dots and hyphens.
pub(super) fn is_tag(text: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    text.len() <= 128
        && text.bytes().next().is_some_and(word)
        && text
            .bytes()
            .all(|byte| word(byte) || matches!(byte, b'.' | b'-'))
}

/// A digest of an algorithm that the reference implementation knows:
/// <https://github.com/opencontainers/go-digest/blob/v1.0.0/algorithm.go>
pub(super) fn is_digest(text: &str) -> bool {
    text.split_once(':').is_some_and(|(algorithm, encoded)| {
        let length = match algorithm {
            "sha256" => 64,
            "sha384" => 96,
            "sha512" => 128,
            _ => return false,
        };
        encoded.len() == length && is_lower_hex(encoded)
    })
}
