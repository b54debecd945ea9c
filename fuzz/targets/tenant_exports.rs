//! Exports, as whoever may write into a namespace leaves them: lines, of which the first chooses the format, one is the annotation that
//! names the key, and the others are what is under each key.

use std::collections::BTreeMap;
use std::sync::Arc;

use secrecy::{ExposeSecret as _, SecretSlice};

use super::{Target, now};
use crate::provision::ports::{PullSecret, SecretData, Version};
use crate::provision::secret::format::keys_of;
use crate::provision::secret::{AuthEntry, Auths, COVERS_ANNOTATION, merge, prune};
use crate::registry::{ExportFormat, SecretFormat};

pub(super) const TARGET: Target = Target {
    name: "tenant_exports",
    run,
    seeds: &[
        "u\na.example: Registry team\nuser\npassword",
        "u\na.example: Registry team\nus:er\npassword",
        "u\nb.example: Registry a\nuser\n",
        "r\n\na.example/x\nhelm\ntrue\nuser\npassword",
        "r\n\nhttps://a.example\ngit\nfalse\nuser\npassword",
        "f\n\n{\"auths\":{\"a.example\":{\"auth\":\"YTpi\"}}}\n{}",
    ],
};

fn run(data: &[u8]) {
    let mut lines = data.split(|byte| *byte == b'\n');
    let format = match lines.next() {
        Some(b"f") => ExportFormat::DockerConfig,
        Some(b"u") => ExportFormat::BasicAuth,
        Some(b"r") => ExportFormat::ArgoCdRepository,
        _ => ExportFormat::ArgoCdRepositoryCreds,
    };
    let format = SecretFormat::Export(format);
    let covers = String::from_utf8_lossy(lines.next().unwrap_or_default());
    let keys = keys_of(format).iter().copied();
    let texts = lines.map(|line| Arc::new(SecretSlice::from(line.to_vec())));
    let annotations = BTreeMap::from([(COVERS_ANNOTATION.to_owned(), covers.into_owned())]);
    let existing = read(format, keys.zip(texts).collect(), annotations);
    let before = Auths::of(&existing);
    let there = before.digests();
    assert!(there.len() <= 1 || !format.holds_one_login());
    let wanted = ["a.example"].map(|key| {
        AuthEntry::new(
            key,
            "team".parse().unwrap(),
            "user",
            &"password".into(),
            None,
        )
    });
    let merged = merge(Some(&existing), format, &wanted, now());
    assert_eq!(merged.digests.get("a.example"), Some(&wanted[0].digest));
    assert!(merged.digests.len() == 1 || !format.holds_one_login());
    let Some(content) = merged.content else {
        assert!(before.is_intact() && there == merged.digests);
        return;
    };
    assert!(
        keys_of(format)
            .iter()
            .all(|key| content.data.contains_key(key))
    );
    assert_eq!(content.data.len(), keys_of(format).len());
    let bytes = content.data.values().map(|text| text.expose_secret().len());
    assert!(bytes.sum::<usize>() <= 12 * data.len() + 1_000);
    let written = read(format, content.data, content.annotations);
    let after = Auths::of(&written);
    assert!(after.is_intact());
    assert_eq!(after.digests(), merged.digests);
    let again = merge(Some(&written), format, &wanted, now());
    assert!(again.content.is_none(), "the second merge writes, too");
    assert!(prune(&written, |_| false).content.is_none());
}

fn read(
    format: SecretFormat,
    data: SecretData,
    annotations: BTreeMap<String, String>,
) -> PullSecret {
    PullSecret {
        version: Version::default(),
        ours: true,
        format: Some(format),
        type_: format.secret_type().to_owned(),
        data,
        annotations,
    }
}
