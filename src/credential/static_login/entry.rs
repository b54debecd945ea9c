//! One entry of a dockerconfigjson, read as the kubelet reads it.

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use secrecy::SecretString;
use serde::Deserialize;

/// With or without padding, as the kubelet takes it.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// What Docker Hub's images are called.
const DOCKER_HUB: &str = "docker.io";
/// The key that Docker keeps Docker Hub's login under.
const DOCKER_HUB_INDEX: &str = "index.docker.io";

/// Where an entry holds: host labels (with globs), port, and a path that is a byte prefix of the images' paths.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Location {
    key: String,
    /// Where the path begins in `key`; it begins with `/` or is empty.
    path_at: usize,
}

impl Location {
    /// Reads an `auths` key: scheme and the path `/v1/` or `/v2/` are left out, as the kubelet does. `None` for what it ignores, and
    /// for what no registry's name has (user information, queries, percent signs, character classes, empty labels).
    pub(super) fn parse(key: &str) -> Option<Self> {
        let rest = key
            .strip_prefix("https://")
            .or_else(|| key.strip_prefix("http://"))
            .unwrap_or(key);
        let odd = |byte: u8| !byte.is_ascii_graphic() || b"@?#%[]\\".contains(&byte);
        let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let host_is_odd = host.bytes().any(odd) && !host.starts_with('[');
        if host.is_empty() || host_is_odd || path.bytes().any(odd) {
            return None;
        }
        let path = match path.get(..4) {
            Some("/v1/" | "/v2/") => path.get(3..).unwrap_or_default(),
            _ => path,
        };
        let path = if path == "/" { "" } else { path };
        let location = Self {
            key: format!("{host}{path}"),
            path_at: host.len(),
        };
        let has_empty_label = location.host().0.split('.').any(str::is_empty);
        (!has_empty_label).then_some(location)
    }

    /// What the kubelet's order goes by, the first one last: reverse-lexical by key, and Docker Hub's index only when nothing else is
    /// there.
    pub(super) fn rank(&self) -> (bool, &str) {
        (self.key != DOCKER_HUB_INDEX, &self.key)
    }

    fn path(&self) -> &str {
        self.key.get(self.path_at..).unwrap_or_default()
    }

    /// Host and port.
    fn host(&self) -> (&str, &str) {
        let authority = self.key.get(..self.path_at).unwrap_or_default();
        match authority.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, port),
            _ => (authority, ""),
        }
    }

    /// The key without scheme and version.
    pub(super) fn key(&self) -> &str {
        &self.key
    }

    /// Whether a Registry's key covers all of this, on whole segments.
    pub(super) fn lies_in(&self, key: &Self) -> bool {
        self.within(key).is_some_and(|both| both == self.key)
    }

    /// Whether this entry holds for all that `target` holds for.
    pub(super) fn covers(&self, target: &Self) -> bool {
        self.within(target).is_some_and(|both| both == target.key)
    }

    /// The key of what both this entry and the Registry's key `wanted` hold for, `None` when that is nothing. In `wanted` a label
    /// may be `*`, and its path covers whole segments.
    pub(super) fn within(&self, wanted: &Self) -> Option<String> {
        let path = if wanted.path().starts_with(self.path()) {
            wanted.path()
        } else {
            let below = self.path().strip_prefix(wanted.path())?;
            below.starts_with('/').then_some(self.path())?
        };
        let ((host, port), (wanted_host, wanted_port)) = (self.host(), wanted.host());
        if self.key == DOCKER_HUB_INDEX && wanted_host == DOCKER_HUB && wanted_port.is_empty() {
            return Some(wanted.key.clone());
        }
        if port != wanted_port || host.split('.').count() != wanted_host.split('.').count() {
            return None;
        }
        let labels = host.split('.').zip(wanted_host.split('.'));
        let host: Option<Vec<&str>> = labels
            .map(|(entry, wanted)| match wanted {
                "*" => Some(entry),
                literal => matches_glob(entry, literal).then_some(literal),
            })
            .collect();
        let colon = if port.is_empty() { "" } else { ":" };
        Some(format!("{}{colon}{port}{path}", host?.join(".")))
    }
}

/// Whether `text` matches `glob`, in which `*` matches any number of characters. (To the kubelet, too, a `?` begins a query.)
///
/// A `*` takes nothing at first, and one more byte each time that what follows it does not match; one before it is never tried again,
/// as the last one can take what it would. So it costs `glob` times `text` at most, whatever a Secret's key is made of.
fn matches_glob(glob: &str, text: &str) -> bool {
    let (glob, text) = (glob.as_bytes(), text.as_bytes());
    let (mut in_glob, mut in_text) = (0, 0);
    // Behind the last star, and where in the text what follows it is tried.
    let mut last_star: Option<(usize, usize)> = None;
    while in_text < text.len() {
        match (glob.get(in_glob), last_star) {
            (Some(b'*'), _) => {
                in_glob += 1;
                last_star = Some((in_glob, in_text));
            }
            (wanted, _) if wanted == text.get(in_text) => {
                in_glob += 1;
                in_text += 1;
            }
            (_, Some((behind, begun))) => {
                in_glob = behind;
                in_text = begun + 1;
                last_star = Some((behind, begun + 1));
            }
            (_, None) => return false,
        }
    }
    glob.iter().skip(in_glob).all(|byte| *byte == b'*')
}

#[derive(Deserialize)]
struct DockerConfigEntry {
    username: Option<String>,
    password: Option<String>,
    auth: Option<String>,
    identitytoken: Option<String>,
}

/// A user name or password as it was meant: what comes out of a file, or out of `echo`, ends with a newline, which no login has.
pub(super) fn normalise(text: &str) -> &str {
    text.strip_suffix('\n')
        .map_or(text, |text| text.strip_suffix('\r').unwrap_or(text))
}

/// Whether an entry has an `identitytoken` and no login, as `az acr login` leaves it.
pub(super) fn has_only_identity_token(json: &str) -> bool {
    let entry = serde_json::from_str::<DockerConfigEntry>(json);
    let has_token = entry.is_ok_and(|entry| entry.identitytoken.is_some_and(|one| !one.is_empty()));
    has_token && matches!(parse_login(json), Ok(None))
}

/// The login of an entry; `None` when it has none (only an `identitytoken`, or nothing). The error says what is wrong with it and
/// repeats nothing of it.
///
/// <https://github.com/kubernetes/kubernetes/blob/master/pkg/credentialprovider/config.go>
pub(super) fn parse_login(json: &str) -> Result<Option<(String, SecretString)>, &'static str> {
    let entry: DockerConfigEntry = serde_json::from_str(json)
        .map_err(|_| "is not an object with username, password and auth as text: rewrite it")?;
    let (username, password) = match entry.auth.filter(|auth| !auth.is_empty()) {
        Some(auth) => decode_auth(&auth)?,
        None => (
            entry.username.unwrap_or_default(),
            entry.password.unwrap_or_default(),
        ),
    };
    let (username, password) = (normalise(&username), normalise(&password));
    if username.contains(':') {
        return Err("has a user name with a colon: rewrite it");
    }
    let is_login = !username.is_empty() && !password.is_empty();
    Ok(is_login.then(|| (username.to_owned(), password.into())))
}

fn decode_auth(auth: &str) -> Result<(String, String), &'static str> {
    let packed: String = auth.chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
    let decoded = BASE64
        .decode(packed)
        .map_err(|_| "has an auth that is not base64: rewrite it")?;
    let text =
        String::from_utf8(decoded).map_err(|_| "has an auth that is not UTF-8: rewrite it")?;
    let (username, password) = text
        .split_once(':')
        .ok_or("has an auth that is not USER:PASSWORD in base64: rewrite it")?;
    Ok((username.to_owned(), password.to_owned()))
}
