//! The arguments of the plug-in, as the kubelet gives them, and as `check --node` reads them in its configuration.

use std::path::PathBuf;

use clap::{Args as _, FromArgMatches as _, Subcommand};

use super::config;
use super::values::{parse_host_port, parse_server_name};

/// The first of the arguments that the kubelet gives this program.
pub(in crate::command) const SUBCOMMAND: &str = "credential-provider";

/// Ask pullpass for the login of an image, for the kubelet
///
/// This is a credential provider of the kubelet: it reads a CredentialProviderRequest from stdin, hands it to the broker of pullpass, and
/// prints the CredentialProviderResponse. What goes wrong is one line on stderr, which the kubelet logs. It keeps nothing on disk.
// <https://kubernetes.io/docs/tasks/administer-cluster/kubelet-credential-provider/>
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
#[command(after_help = "Examples:\n  \
    pullpass credential-provider config -f registries.yaml --address 10.96.0.80:8444\n  \
    pullpass credential-provider --address 10.96.0.80:8444 --server-name pullpass.pullpass.svc --ca-file /etc/pullpass/ca.crt < request.json")]
pub(in crate::command) struct Args {
    #[command(subcommand)]
    pub(super) command: Option<ProviderCommand>,
    /// Where the broker listens: the address of its Service, or of this node and its NodePort
    #[arg(
        long,
        value_name = "HOST:PORT",
        env = "PULLPASS_BROKER_ADDRESS",
        value_parser = parse_host_port,
        required = true
    )]
    pub(in crate::command) address: Option<String>,
    /// The name that the broker's certificate is for
    #[arg(
        long,
        value_name = "NAME",
        env = "PULLPASS_BROKER_SERVER_NAME",
        value_parser = parse_server_name,
        default_value = "pullpass.pullpass.svc"
    )]
    pub(super) server_name: String,
    /// The certificate, PEM, of the CA that signs the broker's: `ca.crt` of the Secret pullpass-certificates
    #[arg(
        long,
        value_name = "FILE",
        env = "PULLPASS_BROKER_CA_FILE",
        required = true
    )]
    pub(in crate::command) ca_file: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(super) enum ProviderCommand {
    Config(config::Args),
}

/// The arguments that variables may give.
const NAMES: [(&str, &str); 3] = [
    ("address", "--address"),
    ("server_name", "--server-name"),
    ("ca_file", "--ca-file"),
];

/// Why the plug-in does not take its arguments.
#[derive(Debug)]
pub(in crate::command) struct ArgumentsError {
    /// Whether one is missing.
    pub(in crate::command) is_missing: bool,
    /// What the plug-in prints.
    pub(in crate::command) message: String,
}

/// Reads what stands behind the subcommand with the plug-in's own parser. Of variables only these count, as on a node.
///
/// # Errors
/// The plug-in does not take them.
pub(in crate::command) fn read(
    words: &[String],
    variables: &[(String, String)],
) -> Result<Args, ArgumentsError> {
    let for_people = || ArgumentsError {
        is_missing: false,
        message: "config is for people: it prints this configuration".to_owned(),
    };
    if words.first().is_some_and(|word| word == "config") {
        return Err(for_people());
    }
    let mut command = Args::augment_args(clap::Command::new(SUBCOMMAND)).no_binary_name(true);
    let mut words = words.to_vec();
    for (id, name) in NAMES {
        let is_given = |word: &String| {
            let rest = word.strip_prefix(name);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
        };
        command = command.mut_arg(id, |arg| {
            let mut given = variables.iter().rev();
            let is_own = |name: &str| arg.get_env().is_some_and(|own| own == name);
            if let Some((_, value)) = given.find(|(name, _)| is_own(name))
                && !words.iter().any(is_given)
            {
                words.push(format!("{name}={value}"));
            }
            arg.env(None)
        });
    }
    let matches = command.try_get_matches_from(words);
    let read = matches.and_then(|matches| Args::from_arg_matches(&matches));
    match read {
        Ok(args) if args.command.is_some() => Err(for_people()),
        Ok(args) => Ok(args),
        Err(error) => Err(ArgumentsError {
            is_missing: error.kind() == clap::error::ErrorKind::MissingRequiredArgument,
            message: describe_usage(&error),
        }),
    }
}

/// What is wrong with arguments, in one line.
pub(in crate::command) fn describe_usage(error: &clap::Error) -> String {
    if !error.use_stderr() {
        return "the arguments ask for help".to_owned();
    }
    let text = error.render().to_string();
    let problem = text.split("\n\n").next().unwrap_or_default();
    let problem = problem.strip_prefix("error: ").unwrap_or(problem);
    problem.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn reads_what_the_plug_in_takes() {
        let address = ("PULLPASS_BROKER_ADDRESS", "10.96.0.80:8444");
        let file = ("PULLPASS_BROKER_CA_FILE", "/ca.crt");
        for (text, variables) in [
            ("--address 10.96.0.80:8444 --ca-file /ca.crt", &[][..]),
            (
                "--address=10.96.0.80:8444 --ca-file=/ca.crt --server-name a.b",
                &[],
            ),
            ("--ca-file /ca.crt", &[address]),
            ("", &[address, file]),
            (
                "--address 10.96.0.80:8444",
                &[("PULLPASS_BROKER_ADDRESS", "x"), file],
            ),
        ] {
            let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
            let variables: Vec<_> = variables.iter().map(owned).collect();
            let read =
                read(&words(text), &variables).unwrap_or_else(|error| panic!("{text}: {error:?}"));
            assert_eq!(read.address.as_deref(), Some("10.96.0.80:8444"), "{text}");
            assert_eq!(read.ca_file, Some(PathBuf::from("/ca.crt")), "{text}");
        }
    }

    #[test]
    fn says_in_one_line_what_the_plug_in_does_not_take() {
        let good = "--address 10.96.0.80:8444 --ca-file /ca.crt";
        for (text, is_missing, problem) in [
            ("", true, "--address <HOST:PORT> --ca-file <FILE>"),
            ("--address 10.96.0.80:8444", true, "--ca-file <FILE>"),
            (
                "--address 10.96.0.80 --ca-file /a",
                false,
                "write it as HOST:PORT",
            ),
            ("--address", false, "a value is required"),
            (
                &format!("{good} --address 1.2.3.4:5"),
                false,
                "multiple times",
            ),
            (
                &format!("{good} --verbose"),
                false,
                "unexpected argument '--verbose'",
            ),
            (
                &format!("{good} --server-name *"),
                false,
                "write a DNS name",
            ),
            (&format!("{good} x"), false, "'x'"),
            ("config --rbac", false, "config is for people"),
            ("--help", false, "ask for help"),
        ] {
            let error = read(&words(text), &[]).map(|_| ()).unwrap_err();
            assert!(error.message.contains(problem), "{text}: {error:?}");
            assert!(!error.message.contains('\n'), "{text}: {error:?}");
            assert_eq!(error.is_missing, is_missing, "{text}: {error:?}");
        }
    }
}
