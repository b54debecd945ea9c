//! Names of IAM roles.

/// The ARN of an IAM role, read strictly: exactly this form, from the first character to the last.
///
/// `arn:PARTITION:iam::ACCOUNT:role/PATH/NAME`, the path being optional.
/// <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_identifiers.html#identifiers-arns>
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoleArn<'a> {
    /// The partition, such as `aws`.
    pub partition: &'a str,
    /// The account: 12 digits.
    pub account: &'a str,
    /// The role's name, without its path.
    pub name: &'a str,
}

impl<'a> RoleArn<'a> {
    /// Reads an ARN.
    ///
    /// # Errors
    /// What is wrong, to be put behind the text in question: `is no ARN of an IAM role …`.
    pub fn parse(text: &'a str) -> Result<Self, &'static str> {
        const FORM: &str =
            "is no ARN of an IAM role: write arn:aws:iam::123456789012:role/NAME, with its path";
        Self::split(text).ok_or(FORM)
    }

    fn split(text: &'a str) -> Option<Self> {
        let rest = text.strip_prefix("arn:").filter(|_| text.len() <= 2048)?;
        let (partition, rest) = rest.split_once(":iam::")?;
        let (account, rest) = rest.split_once(":role/")?;
        let (path, name) = match rest.rsplit_once('/') {
            Some((path, name)) => (Some(path), name),
            None => (None, rest),
        };
        let is_partition = partition == "aws"
            || partition
                .strip_prefix("aws-")
                .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(is_lower));
        let is_account = account.len() == 12 && account.bytes().all(|byte| byte.is_ascii_digit());
        let is_name = (1..=64).contains(&name.len()) && name.bytes().all(is_name_byte);
        // A path may hold any printable character; those that no tool makes are not taken.
        let is_part = |part: &str| !part.is_empty() && part.bytes().all(is_name_byte);
        let is_path = path.is_none_or(|path| path.len() <= 510 && path.split('/').all(is_part));
        (is_partition && is_account && is_name && is_path).then_some(Self {
            partition,
            account,
            name,
        })
    }
}

fn is_lower(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte == b'-'
}

/// `[\w+=,.@-]`: what names of roles, sessions and their like are made of.
pub(super) fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"_+=,.@-".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_roles_with_and_without_a_path() {
        let rows = [
            ("arn:aws:iam::123456789012:role/pull", "aws", "pull"),
            (
                "arn:aws-cn:iam::123456789012:role/a/b/pull.er+=,@-_1",
                "aws-cn",
                "pull.er+=,@-_1",
            ),
            (
                "arn:aws-us-gov:iam::123456789012:role/service/x",
                "aws-us-gov",
                "x",
            ),
            ("arn:aws-iso-b:iam::000000000000:role/x", "aws-iso-b", "x"),
        ];
        for (text, partition, name) in rows {
            let found = RoleArn::parse(text).unwrap();
            assert_eq!((found.partition, found.name), (partition, name), "{text}");
        }
    }

    #[test]
    fn refuses_everything_else() {
        let long = format!("arn:aws:iam::123456789012:role/{}", "x".repeat(65));
        for text in [
            "",
            "pull",
            "arn:aws:iam::123456789012:user/pull",
            "arn:aws:iam::123456789012:role/",
            "arn:aws:iam::123456789012:role//pull",
            "arn:aws:iam::123456789012:role/a//pull",
            "arn:aws:iam::12345678901:role/pull",
            "arn:aws:iam::1234567890123:role/pull",
            "arn:aws:iam::12345678901x:role/pull",
            "arn:aws:iam:eu-west-1:123456789012:role/pull",
            "arn:aws:sts::123456789012:assumed-role/pull/session",
            "arn:evil:iam::123456789012:role/pull",
            "arn:aws-:iam::123456789012:role/pull",
            "arn:AWS:iam::123456789012:role/pull",
            " arn:aws:iam::123456789012:role/pull",
            "arn:aws:iam::123456789012:role/pull\n",
            "arn:aws:iam::123456789012:role/pull er",
            "arn:aws:iam::123456789012:role/pull:x",
            "arn:aws:iam::123456789012:role/püll",
            "arn:aws:iam::123456789012:role/pull?x=https://evil.example",
            &long,
        ] {
            assert!(RoleArn::parse(text).is_err(), "{text:?}");
        }
    }
}
