//! Which region's STS is asked.

use crate::registry::source::EcrSource;

/// The region whose STS is asked: the one that pullpass runs in, whose endpoint a private network most likely has, when it is of the
/// registry's partition and no FIPS endpoint is asked for (only some regions have one); else the registry's.
pub(super) fn find<'a>(source: &'a EcrSource, own: Option<&'a str>) -> &'a str {
    own.filter(|own| !source.fips && partition_prefix(own) == partition_prefix(&source.region))
        .unwrap_or(&source.region)
}

/// What the names of a partition's regions begin with; empty for the commercial ones.
fn partition_prefix(region: &str) -> &str {
    const PREFIXES: [&str; 7] = [
        "cn-", "us-gov-", "us-iso-", "us-isob-", "eu-isoe-", "us-isof-", "eusc-",
    ];
    PREFIXES
        .into_iter()
        .find(|prefix| region.starts_with(prefix))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::source::{EcrEndpoints, EcrIdentity, Partition, TokenLifetime};

    fn source(region: &str, fips: bool) -> EcrSource {
        EcrSource {
            partition: Partition::Aws,
            region: region.to_owned(),
            public: false,
            fips,
            dual_stack: false,
            identity: EcrIdentity::Workload,
            session_seconds: None,
            assume_roles: Vec::new(),
            token_life: TokenLifetime::Session,
            endpoints: EcrEndpoints::default(),
        }
    }

    #[test]
    fn find_region_prefers_own_within_the_partition() {
        assert_eq!(
            find(&source("eu-west-1", false), Some("us-east-1")),
            "us-east-1"
        );
        assert_eq!(
            find(&source("us-east-2", true), Some("eu-west-1")),
            "us-east-2"
        );
        assert_eq!(
            find(&source("cn-north-1", false), Some("eu-west-1")),
            "cn-north-1"
        );
        assert_eq!(
            find(&source("eu-west-1", false), Some("us-gov-west-1")),
            "eu-west-1"
        );
        assert_eq!(
            find(&source("us-isob-east-1", false), Some("us-iso-east-1")),
            "us-isob-east-1"
        );
        assert_eq!(find(&source("eu-west-1", false), None), "eu-west-1");
    }
}
