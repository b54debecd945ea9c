//! Values of metrics' labels: the words of conditions, Events and logs in snake_case, as Prometheus' own are.
//!
//! <https://prometheus.io/docs/practices/naming/>

use std::fmt::{Debug, Write as _};

use prometheus_client::encoding::{EncodeLabelValue, LabelValueEncoder};

/// A word of a closed set, a variant or a `&'static str`, that a label shows in snake_case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Snake<T>(pub(crate) T);

impl<T: Debug> EncodeLabelValue for Snake<T> {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        encoder.write_str(&to_snake_case(&format!("{:?}", self.0)))
    }
}

/// `NamespaceTerminating` and `namespace terminating` as `namespace_terminating`; the quotes that a string's `Debug` has are left out.
fn to_snake_case(word: &str) -> String {
    let mut snake = String::with_capacity(word.len() + 4);
    let mut follows_lower = false;
    for letter in word.trim_matches('"').chars() {
        if letter.is_uppercase() && follows_lower {
            snake.push('_');
        }
        follows_lower = letter.is_lowercase() || letter.is_numeric();
        snake.extend(if matches!(letter, ' ' | '-') {
            '_'.to_lowercase()
        } else {
            letter.to_lowercase()
        });
    }
    snake
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_words_of_any_form_in_snake_case() {
        for (word, snake) in [
            ("Injected", "injected"),
            ("NamespaceTerminating", "namespace_terminating"),
            ("\"NotTls\"", "not_tls"),
            ("\"\"", ""),
            ("pull secrets", "pull_secrets"),
            ("ecr_public", "ecr_public"),
            ("X509Error", "x509_error"),
        ] {
            assert_eq!(to_snake_case(word), snake);
        }
    }
}
