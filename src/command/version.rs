//! `pullpass version`: what this program is and how it was built.

use std::process::ExitCode;

use jiff::Timestamp;
use serde::Serialize;

/// The version of this program.
pub(super) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The commit that it was made of.
pub(super) const COMMIT: &str = match option_env!("PULLPASS_COMMIT") {
    Some(commit) => commit,
    None => UNKNOWN,
};

/// Print the version.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  pullpass version\n  pullpass version -o json")]
pub(super) struct Args {
    /// How to print it.
    #[arg(short, long, value_enum, default_value_t)]
    output: super::Output,
}

/// What a build that is no release does not know of itself: finding the commit would build the program anew after each.
const UNKNOWN: &str = "unknown";

/// The minor versions of Kubernetes on which the tests run: the oldest is the oldest that is supported. Tests compare them with the
/// charts, the documents and the test bed's modules.
const KUBERNETES: KubernetesRange = KubernetesRange {
    oldest: "1.34",
    newest_tested: "1.36",
};

#[derive(Serialize)]
struct KubernetesRange {
    oldest: &'static str,
    #[serde(rename = "newestTested")]
    newest_tested: &'static str,
}

/// The commit, the date and the rest come from `image/build.sh`, by the environment of the compiler.
#[derive(Serialize)]
struct Report {
    version: &'static str,
    commit: &'static str,
    /// When the commit was made (<https://reproducible-builds.org/docs/source-date-epoch/>), as RFC 3339.
    date: String,
    build: Build,
    kubernetes: KubernetesRange,
}

#[derive(Serialize)]
struct Build {
    target: &'static str,
    profile: &'static str,
    rustc: &'static str,
}

fn build_report() -> Report {
    Report {
        version: VERSION,
        commit: COMMIT,
        date: find_date(option_env!("SOURCE_DATE_EPOCH")),
        build: Build {
            target: option_env!("PULLPASS_TARGET").unwrap_or(UNKNOWN),
            profile: if cfg!(debug_assertions) {
                "debug"
            } else {
                "release"
            },
            rustc: option_env!("PULLPASS_RUSTC").unwrap_or(UNKNOWN),
        },
        kubernetes: KUBERNETES,
    }
}

/// Seconds since 1970 as RFC 3339.
fn find_date(seconds: Option<&str>) -> String {
    let seconds = seconds.and_then(|seconds| seconds.parse().ok());
    let time = seconds.and_then(|seconds| Timestamp::from_second(seconds).ok());
    time.map_or_else(|| UNKNOWN.to_owned(), |time| time.to_string())
}

impl Report {
    fn text(&self) -> String {
        format!("pullpass {}\n", self.version)
    }

    /// With all the rest.
    fn wide(&self) -> String {
        let (build, kubernetes) = (&self.build, &self.kubernetes);
        let rows = [
            ["commit", self.commit],
            ["date", &self.date],
            ["target", build.target],
            ["profile", build.profile],
            ["rustc", build.rustc],
            ["oldest Kubernetes", kubernetes.oldest],
            ["newest Kubernetes tested", kubernetes.newest_tested],
        ];
        self.text() + &super::table(&rows.map(|row| row.map(str::to_owned)))
    }
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let report = build_report();
    let printed = args.output.format(&report)?;
    super::print(&printed.unwrap_or_else(|| match args.output {
        super::Output::Wide => report.wide(),
        _ => report.text(),
    }))?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_date_of_sources() {
        for (seconds, date) in [
            (Some("0"), "1970-01-01T00:00:00Z"),
            (Some("1767225600"), "2026-01-01T00:00:00Z"),
            (Some("yesterday"), UNKNOWN),
            (Some(""), UNKNOWN),
            (None, UNKNOWN),
        ] {
            assert_eq!(find_date(seconds), date, "{seconds:?}");
        }
    }
}
