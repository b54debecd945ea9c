//! The `pullpass` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    // The one TLS provider of this process; must come before anything that speaks TLS.
    if rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .is_err()
    {
        eprintln!("error: a TLS provider is installed already: this is a bug");
        return ExitCode::FAILURE;
    }
    pullpass::command::run()
}
