//! What a registry's host name says: provider, account, region, partition.
//!
//! Hosts are taken apart label by label and must match from the first to the last one, so a look-alike never does. Letters must be
//! lower case, as the kubelet compares them.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A host that belongs to a cloud's registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Host<'a> {
    /// A private registry of Amazon ECR.
    Ecr(EcrHost<'a>),
    /// Amazon ECR Public.
    EcrPublic {
        /// Whether it is the name with IPv4 and IPv6 addresses.
        dual_stack: bool,
    },
    /// A login server of Azure Container Registry.
    Acr(AcrHost<'a>),
    /// A data endpoint of Azure Container Registry: layers come from it, no image names it, no credential is for it.
    AcrData,
}

/// A private registry of Amazon ECR.
///
/// <https://docs.aws.amazon.com/AmazonECR/latest/userguide/Registries.html>
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EcrHost<'a> {
    /// The account: 12 digits, or `*` in a pattern.
    pub account: &'a str,
    /// The region, such as `eu-west-1`.
    pub region: &'a str,
    /// The partition that the region and the host's suffix belong to.
    pub partition: Partition,
    /// Whether it is a FIPS endpoint.
    pub fips: bool,
    /// Whether it is the name with IPv4 and IPv6 addresses.
    pub dual_stack: bool,
}

/// A login server of Azure Container Registry.
///
/// <https://learn.microsoft.com/azure/container-registry/container-registry-endpoint-reference>
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AcrHost<'a> {
    /// The login server: the whole host. A token is good for this name alone.
    pub server: &'a str,
    /// The region of a regional login server, such as `westeurope`.
    pub region: Option<&'a str>,
    /// The cloud.
    pub cloud: AzureCloud,
}

/// The cloud of login servers whose name does not say it. Default: Public.
// The schema takes the description of an enum from its type.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum AzureCloud {
    /// The global one.
    #[default]
    Public,
    /// China, operated by 21Vianet.
    China,
    /// US Government.
    #[serde(rename = "USGovernment")]
    UsGov,
    /// Germany, closed in 2021.
    #[serde(skip)]
    Germany,
}

impl AzureCloud {
    /// Its name as a Registry writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Public => "Public",
            Self::UsGov => "USGovernment",
            Self::China => "China",
            Self::Germany => "Germany",
        }
    }

    /// What federated credentials there take as the audience of a token where nothing else was agreed.
    ///
    /// <https://learn.microsoft.com/entra/workload-id/workload-identity-federation-considerations>
    pub fn audience(self) -> &'static str {
        match self {
            Self::UsGov => "api://AzureADTokenExchangeUSGov",
            Self::China => "api://AzureADTokenExchangeChina",
            Self::Public | Self::Germany => "api://AzureADTokenExchange",
        }
    }
}

/// An AWS partition: a set of regions with its own credentials and endpoints.
///
/// <https://docs.aws.amazon.com/whitepapers/latest/aws-fault-isolation-boundaries/partitions.html>
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Partition {
    /// Commercial regions.
    Aws,
    /// GovCloud (US).
    AwsUsGov,
    /// China.
    AwsCn,
    /// European Sovereign Cloud.
    AwsEusc,
    /// ISO (US), `c2s.ic.gov`.
    AwsIso,
    /// ISOB (US), `sc2s.sgov.gov`.
    AwsIsoB,
    /// ISOE (Europe), `cloud.adc-e.uk`.
    AwsIsoE,
    /// ISOF, `csp.hci.ic.gov`.
    AwsIsoF,
}

impl Partition {
    /// The partition's name in ARNs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Aws => "aws",
            Self::AwsUsGov => "aws-us-gov",
            Self::AwsCn => "aws-cn",
            Self::AwsEusc => "aws-eusc",
            Self::AwsIso => "aws-iso",
            Self::AwsIsoB => "aws-iso-b",
            Self::AwsIsoE => "aws-iso-e",
            Self::AwsIsoF => "aws-iso-f",
        }
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// The suffixes of Amazon ECR's hosts, whether hosts under them are dual-stack, and the partitions they serve.
///
/// <https://github.com/boto/botocore/blob/develop/botocore/data/partitions.json>,
/// <https://github.com/aws/amazon-ecs-agent/issues/4612>
const ECR_SUFFIXES: [(&str, bool, &[Partition]); 14] = [
    (
        ".amazonaws.com",
        false,
        &[Partition::Aws, Partition::AwsUsGov],
    ),
    (".amazonaws.com.cn", false, &[Partition::AwsCn]),
    (".amazonaws.eu", false, &[Partition::AwsEusc]),
    (".c2s.ic.gov", false, &[Partition::AwsIso]),
    (".sc2s.sgov.gov", false, &[Partition::AwsIsoB]),
    (".cloud.adc-e.uk", false, &[Partition::AwsIsoE]),
    (".csp.hci.ic.gov", false, &[Partition::AwsIsoF]),
    (".on.aws", true, &[Partition::Aws, Partition::AwsUsGov]),
    (".on.amazonwebservices.com.cn", true, &[Partition::AwsCn]),
    (".on.amazonwebservices.eu", true, &[Partition::AwsEusc]),
    (".on.aws.ic.gov", true, &[Partition::AwsIso]),
    (".on.aws.scloud", true, &[Partition::AwsIsoB]),
    (".on.cloud-aws.adc-e.uk", true, &[Partition::AwsIsoE]),
    (".on.aws.hci.ic.gov", true, &[Partition::AwsIsoF]),
];

const ACR_SUFFIXES: [(&str, AzureCloud); 4] = [
    (".azurecr.io", AzureCloud::Public),
    (".azurecr.us", AzureCloud::UsGov),
    (".azurecr.cn", AzureCloud::China),
    (".azurecr.de", AzureCloud::Germany),
];

impl<'a> Host<'a> {
    /// Recognises a host (without a port), or `None` when it is no cloud's.
    pub fn recognise(host: &'a str) -> Option<Self> {
        Self::recognise_pattern(host)
            .filter(|found| !matches!(found, Self::Ecr(ecr) if ecr.account == "*"))
    }

    /// As [`Host::recognise`], and `*` may be the account of a private registry of Amazon ECR.
    pub fn recognise_pattern(host: &'a str) -> Option<Self> {
        match host {
            "public.ecr.aws" => Some(Self::EcrPublic { dual_stack: false }),
            "ecr-public.aws.com" => Some(Self::EcrPublic { dual_stack: true }),
            _ => recognise_ecr(host)
                .map(Self::Ecr)
                .or_else(|| recognise_acr(host)),
        }
    }
}

fn recognise_ecr(host: &str) -> Option<EcrHost<'_>> {
    let (account, rest) = host.split_once('.')?;
    if account != "*" && !(account.len() == 12 && account.bytes().all(|byte| byte.is_ascii_digit()))
    {
        return None;
    }
    let forms = [
        ("dkr.ecr.", false, false),
        ("dkr.ecr-fips.", true, false),
        ("dkr-ecr.", false, true),
        ("dkr-ecr-fips.", true, true),
    ];
    let (rest, fips, dual_stack) = forms.iter().find_map(|&(form, fips, dual_stack)| {
        rest.strip_prefix(form).map(|rest| (rest, fips, dual_stack))
    })?;
    let (region, suffix) = rest.split_at(rest.find('.')?);
    let partition = partition_of(region)?;
    ECR_SUFFIXES
        .iter()
        .any(|&(known, dual, partitions)| {
            known == suffix && dual == dual_stack && partitions.contains(&partition)
        })
        .then_some(EcrHost {
            account,
            region,
            partition,
            fips,
            dual_stack,
        })
}

/// The partition of a region, by the form of its name; `None` when the text is no region's name.
///
/// <https://github.com/boto/botocore/blob/develop/botocore/data/partitions.json>
pub fn partition_of(region: &str) -> Option<Partition> {
    let mut parts = region.split('-');
    let first = parts.next()?;
    let number = parts.next_back()?;
    let second = parts.clone().next()?;
    let is_word =
        |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_lowercase());
    let is_region = (2..=5).contains(&first.len())
        && is_word(first)
        && parts.all(is_word)
        && matches!(number.len(), 1 | 2)
        && number.bytes().all(|byte| byte.is_ascii_digit());
    is_region.then_some(match (first, second) {
        ("cn", _) => Partition::AwsCn,
        ("eusc", _) => Partition::AwsEusc,
        (_, "gov") => Partition::AwsUsGov,
        (_, "iso") => Partition::AwsIso,
        (_, "isob") => Partition::AwsIsoB,
        (_, "isoe") => Partition::AwsIsoE,
        (_, "isof") => Partition::AwsIsoF,
        _ => Partition::Aws,
    })
}

fn recognise_acr(server: &str) -> Option<Host<'_>> {
    let (name, cloud) = ACR_SUFFIXES
        .iter()
        .find_map(|&(suffix, cloud)| server.strip_suffix(suffix).map(|name| (name, cloud)))?;
    let acr = |region| {
        Host::Acr(AcrHost {
            server,
            region,
            cloud,
        })
    };
    Some(match parse_acr_labels(name)? {
        AcrLabels::Login(region) => acr(region),
        AcrLabels::Data => Host::AcrData,
    })
}

/// Whether an AAD token may be sent to `host`: it is, from its first to its last label, a login server of a cloud of Azure, or one
/// under the admin's own `suffix`. Anything else may belong to anyone.
pub fn is_login_server(host: &str, suffix: Option<&str>) -> bool {
    if matches!(recognise_acr(host), Some(Host::Acr(_))) {
        return true;
    }
    let name = suffix
        .and_then(|suffix| host.strip_suffix(suffix))
        .and_then(|name| name.strip_suffix('.'));
    matches!(name.and_then(parse_acr_labels), Some(AcrLabels::Login(_)))
}

/// What is before the suffix of a host of Azure Container Registry.
enum AcrLabels<'a> {
    /// A login server, and its region if it is a regional one.
    Login(Option<&'a str>),
    /// A data endpoint.
    Data,
}

fn parse_acr_labels(name: &str) -> Option<AcrLabels<'_>> {
    let mut labels = name.split('.');
    labels.next().filter(|name| is_acr_name(name))?;
    match (labels.next(), labels.next(), labels.next()) {
        (None, ..) => Some(AcrLabels::Login(None)),
        (Some(region), Some("geo"), None) if is_azure_region(region) => {
            Some(AcrLabels::Login(Some(region)))
        }
        (Some(region), Some("data"), None) if is_azure_region(region) => Some(AcrLabels::Data),
        _ => None,
    }
}

/// Letters and digits, with one hyphen where the name ends in a domain name label's hash.
fn is_acr_name(name: &str) -> bool {
    let (name, hash) = name.split_once('-').unwrap_or((name, "0"));
    is_azure_region(name) && is_azure_region(hash)
}

fn is_azure_region(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
}
