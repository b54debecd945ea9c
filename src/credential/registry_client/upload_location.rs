//! Where an upload that was opened can be cancelled, and how trying to push ended. Pure.

use crate::credential::one_line::one_line;

/// How trying to push ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PushOutcome {
    /// An upload was opened, and cancelled.
    Cancelled,
    /// An upload was opened; why it was not cancelled. The registry drops it after a while: nothing is in it.
    Left(String),
    /// The registry does not show that the repository is there, in these words: nothing was opened, as that may create it.
    Unknown(String),
}

/// The longest Location that is looked at.
const LONGEST: usize = 4096;

/// The path, with its query, on the registry's own `domain` where an upload is cancelled.
///
/// A registry may put uploads anywhere, also on another server: a login, and a request that deletes, go to nothing but an upload of its own.
///
/// <https://github.com/opencontainers/distribution-spec/blob/main/spec.md#pushing-blobs>
///
/// # Errors
/// Why it is not to be asked there.
pub(super) fn find<'l>(location: Option<&'l str>, domain: &str) -> Result<&'l str, String> {
    let location = location.ok_or("the registry does not say where the upload is")?;
    let odd = || Err("its Location is not that of an upload".to_owned());
    if location.len() > LONGEST || !location.bytes().all(|byte| byte.is_ascii_graphic()) {
        return odd();
    }
    let rest = match location.split_once("://") {
        Some(("https", rest)) => rest,
        // A query may hold a URL; the path before it begins with `/`.
        _ if location.starts_with('/') => location.strip_prefix("//").unwrap_or(location),
        _ => return odd(),
    };
    let path = if rest.starts_with('/') {
        rest
    } else {
        let end = rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len());
        let (host, path) = rest.split_at(end);
        if !is_same_host(host, domain) {
            let host = one_line(host);
            return Err(format!("the upload is on {host}, another host"));
        }
        path
    };
    let path = path.split('#').next().unwrap_or_default();
    if is_upload(path) { Ok(path) } else { odd() }
}

/// Whether a URL's host is this one: case does not count, and port 443 is https' own.
pub(super) fn is_same_host(host: &str, domain: &str) -> bool {
    let plain = |host: &str| {
        host.strip_suffix(":443")
            .unwrap_or(host)
            .to_ascii_lowercase()
    };
    plain(host) == plain(domain)
}

/// Whether a path is that of an upload, as all registries write it, and nothing that leads out of it.
fn is_upload(path: &str) -> bool {
    let place = path.split('?').next().unwrap_or_default();
    let is_plain = |segment: &str| {
        let segment = segment.to_ascii_lowercase();
        !matches!(segment.as_str(), "." | "..")
            && !segment.contains("%2")
            && !segment.contains("%5c")
    };
    let mut segments = place.split('/');
    let is_below = |uploads: &str| {
        let after = place.split_once(uploads).map(|(_, after)| after);
        after.is_some_and(|after| !after.is_empty())
    };
    place.starts_with('/')
        && !place.contains('\\')
        && segments.all(is_plain)
        && (is_below("/blobs/uploads/") || is_below("/blobs/upload/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_place_of_an_upload_on_the_own_host_alone() {
        let own = "/v2/team/app/blobs/uploads/0f-1?_state=x%2Fy&u=https://b.io/";
        let plain = "/v2/a/blobs/uploads/1";
        let at = |host: &str| format!("{host}{plain}");
        let rows: [(&str, &str); 6] = [
            (own, own),
            // GitHub's.
            ("/v2/a/blobs/upload/1", "/v2/a/blobs/upload/1"),
            (&at("https://a.io"), plain),
            (&at("https://a.io:443"), plain),
            (&format!("{}#x", at("https://A.io")), plain),
            (&at("//a.io"), plain),
        ];
        for (location, expected) in rows {
            assert_eq!(find(Some(location), "a.io"), Ok(expected), "{location}");
        }
        assert_eq!(find(Some(&at("https://a.io:5000")), "a.io:5000"), Ok(plain));
        for (host, other) in [
            ("//b.io", "b.io"),
            ("https://b.io", "b.io"),
            ("https://a.io:444", "a.io:444"),
            ("https://a.io.b.io", "a.io.b.io"),
            ("https://a.io@b.io", "a.io@b.io"),
            ("https://b.io\\@a.io", "b.io"),
            ("https://b.io?@a.io", "b.io"),
        ] {
            let why = format!("the upload is on {other}, another host");
            assert_eq!(find(Some(&at(host)), "a.io"), Err(why), "{host}");
        }
        assert!(find(None, "a.io").is_err());
    }

    /// What is no upload is never deleted.
    #[test]
    fn finds_no_place_in_what_is_no_upload() {
        let long = format!("/v2/a/blobs/uploads/{}", "x".repeat(LONGEST));
        for location in [
            "http://a.io/v2/a/blobs/uploads/1",
            "ftp://a.io/v2/a/blobs/uploads/1",
            "v2/a/blobs/uploads/1",
            "",
            "/",
            "/v2/a/manifests/latest",
            "/v2/a/blobs/uploads/",
            "/v2/a/blobs/uploads/../../manifests/latest",
            "/v2/a/blobs/uploads/%2e%2E/%2e%2e/manifests/latest",
            "/v2/a/blobs/uploads/..%5cx",
            "/v2/a/manifests/latest?/blobs/uploads/1",
            "/v2/a/blobs/uploads/1 2",
            &long,
        ] {
            let odd = "its Location is not that of an upload".to_owned();
            assert_eq!(find(Some(location), "a.io"), Err(odd), "{location}");
        }
    }
}
